"""A run of a few seconds in its own process: started, resumed, and compared with an uninterrupted one."""

import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from metarule.config.toml import ConfigError
from metarule.meta import begin
from metarule.parallel.compilation_cache import VARIABLE
from metarule.prng import run_key
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.directory import CHECKPOINTS, is_run, read_experiment
from metarule.runs.files import read_json
from metarule.runs.theta_files import THETA

ROOT = Path(__file__).parents[1]
STEPS, EVERY = 60, 4
FIELDS = {
    "rule.terms": '["pre*modulator", "weight"]',
    "circuit.hidden": "[]",
    "inner_loop.steps": 20,
    "optimizer.steps": STEPS,
    "optimizer.batch_size": 4,
    "evaluation.monitor_every": 20,
    "evaluation.lifetimes": 16,
    "evaluation.points": 2,
    "evaluation.monitor_lifetimes": 8,
    "evaluation.baselines": '["delta"]',
    "run.steps_per_call": 1,
    "run.checkpoint_every": EVERY,
}
NEW = [str(ROOT / "configs" / "boolean-2.toml"), *(f"--{field}={value}" for field, value in FIELDS.items())]
# Two devices of one CPU: two processes of one device each then compute the same bits. Every program is cached.
DEVICES = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
# Seconds after which a process counts as hung.
PATIENCE = 600.0


class Uninterrupted(NamedTuple):
    """An uninterrupted run: its directory, and seconds to its first meta-step on disk, to θ and to its end."""

    path: Path
    first: float
    trained: float
    total: float


class Outcome(NamedTuple):
    """Exit status and standard error of a process."""

    status: int
    message: str


class Runs:
    """Starts and resumes runs that share compiled programs."""

    def __init__(self, programs):
        self.environment = os.environ | DEVICES | {VARIABLE: str(programs)}

    def start(self, path, *words):
        return self._process([*NEW, "--run.directory", str(path), *words])

    def resume(self, path):
        return self._process(["--resume", str(path)])

    def uninterrupted(self, path):
        """Complete a run, and measure the seconds to its parts."""
        clock, marks = time.perf_counter(), {}
        process = self.start(path)
        while process.poll() is None:
            for name, is_there in (("first", steps_on_disk(path) > 0), ("trained", (path / THETA).exists())):
                if is_there:
                    marks.setdefault(name, time.perf_counter() - clock)
            time.sleep(0.01)
        total = time.perf_counter() - clock
        outcome = ended(process)
        assert outcome.status == 0, outcome.message
        return Uninterrupted(path, marks["first"], marks["trained"], total)

    def differences_after_resuming(self, path, reference):
        """Resume a run to its end, or start it if it has not begun, and compare it with a reference run."""
        outcome = ended(self.resume(path))
        if outcome.status == 2 and outcome.message.count("\n") == 1 and not is_run(path):
            outcome = ended(self.start(path))
        return differences(path, reference.path) if outcome.status == 0 else [f"{outcome}"]

    def _process(self, words):
        command = [sys.executable, "-m", "metarule.train", *words]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, **pipes)


def ended(process):
    """Wait for a process; one that hangs is killed."""
    with process:
        try:
            message = process.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            message = f"hung for {PATIENCE:.0f} s: {process.communicate()[1]}"
        finally:
            process.kill()
    return Outcome(process.returncode, message)


def steps_on_disk(path):
    """Number of meta-steps with a complete row on disk."""
    file = path / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def checkpoints(path, partial=False):
    """Meta-steps of the checkpoints of a run, ascending."""
    names = [file.name.split(".") for file in (path / CHECKPOINTS).glob("*.npz*")]
    return sorted(int(name[0]) for name in names if name[0].isdigit() and (partial or len(name) == 2))


def differences(path, reference):
    """Names of parts that differ between two runs, without fields of time."""
    parts = {
        THETA: lambda one: _arrays(one / THETA),
        "theta.json": lambda one: read_json(one / "theta.json"),
        "last checkpoint": _last_state,
        "metrics.jsonl": lambda one: (one / "metrics.jsonl").read_bytes(),
        "summary.json": lambda one: read_json(one / "summary.json") | {"seconds": None},
        "performance.json": lambda one: read_json(one / "performance.json"),
        "config.toml": lambda one: (one / "config.toml").read_bytes(),
    }
    return [name for name, part in parts.items() if not _same(part, path, reference)]


def _same(part, path, reference):
    try:
        return part(path) == part(reference)
    except (OSError, TypeError, ConfigError):  # a damaged or missing file
        return False


def _arrays(file):
    with np.load(file, allow_pickle=False) as arrays:
        return {name: _bits(arrays[name]) for name in arrays.files}


def _bits(array):
    return array.dtype.str, array.shape, array.tobytes()


def _last_state(path):
    step, state = Checkpoints(path / CHECKPOINTS).restore(lambda step: _first_state(path))
    return step, [_bits(np.asarray(leaf)) for leaf in jax.tree.leaves(state)]


@lru_cache
def _first_state(path):
    experiment = read_experiment(path)
    return begin(experiment.lifetime, experiment.optimizer, experiment.split.train, run_key(experiment.seed))
