import pytest

"""Several processes share a run: they stop together and refuse together; crashes are in test_faults."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from small import SIMPLEST, wait_for, words

ROOT = Path(__file__).parents[2]
LONG = [*words(SIMPLEST), "--optimizer.steps", "100", "--run.steps_per_call", "2", "--evaluation.monitor_every", "100"]
NEW = ["configs/boolean-2.toml", *LONG, "--run.loggers", "csv", "--run.directory"]
TRAIN = [sys.executable, "-m", "metarule.train"]
COUNT = 2


class Processes:
    """The same command in processes that share a run, one device each; the last process may get more words."""

    def __init__(self, *words, more=()):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        shared = ["--devices.coordinator", address, "--devices.processes", str(COUNT), "--devices.use", "1"]
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
        """Standard error and exit status of each process."""
        return [(process.communicate(timeout=120)[1], process.returncode) for process in self.processes]


@pytest.mark.long
def test_processes_stop_when_one_is_stopped_and_all_continue(tmp_path):
    path = tmp_path / "shared"
    run = Processes(*NEW, path)
    wait_for(25, path)
    run.processes[1].send_signal(signal.SIGTERM)
    (errors, status), (_, other) = run.end()
    assert status == other == 128 + signal.SIGTERM
    assert f"--resume {path}" in errors
    assert "Traceback" not in errors
    assert json.loads((path / "environment.json").read_text())["device"]["count"] == COUNT  # each uses one of its two
    assert [status for _, status in Processes("--resume", path).end()] == [0, 0]
    steps = [json.loads(line)["step"] for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 101))
    assert len((path / "metrics.csv").read_text().splitlines()) == 101


def test_a_refusal_of_the_first_process_is_a_refusal_of_all(tmp_path):
    (tmp_path / "resolved.toml").write_text("seed = 1\n")
    for errors, status in Processes(*NEW, tmp_path).end():
        assert status == 2
        assert "it holds a run" in errors


def test_processes_with_different_command_lines_are_refused(tmp_path):
    for errors, status in Processes(*NEW, tmp_path / "run", more=["--seed", "3"]).end():
        assert status == 2
        assert "command line = 'configs/boolean-2.toml" in errors
        assert "allowed: the same in all processes; the first has 'configs/boolean-2.toml" in errors
    assert not (tmp_path / "run").exists()
