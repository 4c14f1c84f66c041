"""Several processes are one run: they learn what one would, stop together, and who dies takes nothing along."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from small import OVERRIDES

ROOT = Path(__file__).parent.parent
SMALL = [word for field, value in OVERRIDES.items() for word in (f"--{field}", value)]
LONG = [*SMALL, "--optimizer.steps", "400", "--run.steps_per_call", "2", "--run.checkpoint_every", "20"]
NEW = ["configs/boolean-2.toml", *LONG, "--run.directory"]
TRAIN = [sys.executable, "-m", "metarule.train"]
COUNT = 2


class Together:
    """The same command in processes that share a run, one device each; the last may be given more words."""

    def __init__(self, *words, more=()):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            where = f"localhost:{free.getsockname()[1]}"
        shared = ["--devices.coordinator", where, "--devices.processes", str(COUNT), "--devices.use", "1"]
        self.processes = [
            subprocess.Popen(
                [*TRAIN, *map(str, words), *(more if number else ()), *shared, "--devices.process", str(number)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
            )
            for number in range(COUNT)
        ]

    def end(self):
        """What each said on standard error, and its status."""
        return [(process.communicate(timeout=120)[1], process.returncode) for process in self.processes]


def wait_for(rows, path):
    metrics, deadline = path / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= rows) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert metrics.read_text().count("\n") >= rows


def theta(path):
    with np.load(path / "theta.npz") as arrays:
        return arrays["theta_0"]


def test_a_run_is_shared_stopped_and_goes_on_with_fewer(tmp_path):
    path = tmp_path / "shared"
    run = Together(*NEW, path)
    wait_for(25, path)
    run.processes[1].send_signal(signal.SIGTERM)  # whoever is asked to stop, all do
    (says, status), (_, other) = run.end()
    assert status == other == 128 + signal.SIGTERM
    assert f"--resume {path}" in says
    assert json.loads((path / "environment.json").read_text())["device"]["count"] == COUNT  # each uses one of its two

    run = Together("--resume", path)
    wait_for(130, path)
    run.processes[1].kill()
    killed = time.monotonic()
    (says, status), _ = run.end()
    assert status == 1
    assert "another process of this run is gone" in says
    assert "Traceback" not in says
    assert time.monotonic() - killed < 30
    steps = [int(folder.name) for folder in (path / "checkpoints").iterdir()]
    assert max(steps) >= 120

    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(COUNT)}
    alone = subprocess.run([*TRAIN, "--resume", path], cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    assert alone.returncode == 0, alone.stderr
    whole = subprocess.run(
        [*TRAIN, *NEW, tmp_path / "whole"], cwd=ROOT, capture_output=True, text=True, env=env, check=False
    )
    assert whole.returncode == 0, whole.stderr
    np.testing.assert_array_equal(theta(path), theta(tmp_path / "whole"))


def test_what_the_first_process_refuses_all_do(tmp_path):
    (tmp_path / "resolved.toml").write_text("seed = 1\n")
    for says, status in Together(*NEW, tmp_path).end():
        assert status == 2
        assert "it holds a run" in says


def test_processes_that_were_started_with_other_words_are_refused(tmp_path):
    for says, status in Together(*NEW, tmp_path / "run", more=["--seed", "3"]).end():
        assert status == 2
        assert "command line = 'configs/boolean-2.toml" in says
        assert "allowed: the same in all processes; the first has 'configs/boolean-2.toml" in says
    assert not (tmp_path / "run").exists()
