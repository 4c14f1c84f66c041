"""A run of a few seconds: how it is started and resumed, and whether two have ended alike."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarule.config.toml import ConfigError
from metarule.meta import begin
from metarule.parallel.compilation_cache import VARIABLE
from metarule.prng import run_key
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.directory import CHECKPOINTS, read_experiment
from metarule.runs.files import read_json
from metarule.runs.theta_files import THETA

__all__ = ["EVERY", "STEPS", "Outcome", "Whole", "begun", "differences", "finished", "resume", "taken", "uninterrupted"]

_ROOT = Path(__file__).parents[2]
STEPS, EVERY = 60, 4
_FIELDS = {
    "rule.terms": '["pre*modulator", "weight"]',
    "circuit.hidden": "[]",
    "inner_loop.steps": "20",
    "optimizer.steps": str(STEPS),
    "optimizer.batch_size": "4",
    "evaluation.monitor_every": "20",
    "evaluation.lifetimes": "16",
    "evaluation.points": "2",
    "evaluation.monitor_lifetimes": "8",
    "evaluation.baselines": '["delta"]',
    "run.steps_per_call": "1",
    "run.checkpoint_every": str(EVERY),
}
_NEW = [str(_ROOT / "configs" / "boolean-2.toml")] + [
    word for field, value in _FIELDS.items() for word in (f"--{field}", value)
]
# Of any machine the CPU, as two devices: two processes with one each then come to the same bits. Every program is kept,
# however fast it was compiled, so that no trial has to write one.
_PLACE = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
# Seconds after which a process that does not end counts as hung.
_PATIENCE = 600.0


class Whole(NamedTuple):
    """A run that nothing befell.

    Attributes:
        path: its directory.
        first: seconds until its first meta-step was on disk.
        trained: seconds until θ was.
        total: seconds until its end.
    """

    path: Path
    first: float
    trained: float
    total: float


class Outcome(NamedTuple):
    """How a process ended.

    Attributes:
        status: its exit status.
        says: its standard error.
    """

    status: int
    says: str


def begun(path: Path, programs: Path, *words: str) -> subprocess.Popen[str]:
    """Start a new run.

    Args:
        path: its directory.
        programs: where compiled programs are kept.
        words: more of the command line.

    Returns:
        The process.
    """
    return _start([*_NEW, "--run.directory", str(path), *words], programs)


def resume(path: Path, programs: Path) -> subprocess.Popen[str]:
    """Go on with a run.

    Args:
        path: its directory.
        programs: where compiled programs are kept.

    Returns:
        The process.
    """
    return _start(["--resume", str(path)], programs)


def finished(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process.

    Args:
        process: as started here.

    Returns:
        How it ended.
    """
    with process:
        try:
            says = process.communicate(timeout=_PATIENCE)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            says = f"hung for {_PATIENCE:.0f} s: {process.communicate()[1]}"
        finally:
            process.kill()
    return Outcome(process.returncode, says)


def uninterrupted(path: Path, programs: Path) -> Whole:
    """A run that nothing befalls, timed with its programs compiled.

    Args:
        path: its directory.
        programs: where compiled programs are kept.

    Returns:
        The run.

    Raises:
        RuntimeError: it failed.
    """
    clock, marks = time.perf_counter(), dict[str, float]()
    process = begun(path, programs)
    while process.poll() is None:
        for name, there in (("first", taken(path) > 0), ("trained", (path / THETA).exists())):
            if there:
                marks.setdefault(name, time.perf_counter() - clock)
        time.sleep(0.01)
    total, done = time.perf_counter() - clock, finished(process)
    if done.status:
        raise RuntimeError(f"a run that nothing befell ended with {done.status}: {done.says[-1000:]}")
    return Whole(path, marks["first"], marks["trained"], total)


def taken(path: Path) -> int:
    """Meta-steps whose numbers are on disk, one that is torn left out."""
    file = path / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def differences(path: Path, whole: Path) -> list[str]:
    """What of a run is not as of another, fields of time aside.

    Args:
        path: directory of the run.
        whole: directory of one that nothing befell.

    Returns:
        Names of what differs: nothing, if all is well.
    """
    seen = {
        THETA: lambda one: _arrays(one / THETA),
        "theta.json": lambda one: read_json(one / "theta.json"),
        "last checkpoint": _last_state,
        "metrics.jsonl": lambda one: (one / "metrics.jsonl").read_bytes(),
        "summary.json": lambda one: read_json(one / "summary.json") | {"seconds": None},
        "performance.json": lambda one: read_json(one / "performance.json"),
        "config.toml": lambda one: (one / "config.toml").read_bytes(),
    }
    return [name for name, look in seen.items() if not _same(look, path, whole)]


def _same(look: Callable[[Path], Any], path: Path, whole: Path) -> bool:
    try:
        return bool(look(path) == look(whole))
    except (OSError, TypeError, ConfigError):  # a file that is damaged, or not there
        return False


def _start(words: list[str], programs: Path) -> subprocess.Popen[str]:
    environment = os.environ | _PLACE | {VARIABLE: str(programs)}
    command = [sys.executable, "-m", "metarule.train", *words]
    return subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _arrays(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: _bits(arrays[name]) for name in arrays.files}


def _bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


def _last_state(path: Path) -> tuple[int, list[Any]]:
    with Checkpoints(path / CHECKPOINTS) as checkpoints:
        step, state = checkpoints.restore(_first_state(path))
    return step, [_bits(np.asarray(leaf)) for leaf in jax.tree.leaves(state)]


@lru_cache
def _first_state(path: Path) -> Any:
    experiment = read_experiment(path)
    return begin(experiment.lifetime, experiment.optimizer, experiment.split.train, run_key(experiment.seed))
