"""Locks on cells: one process at a time, and results that are published once."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarule.config.toml import ConfigError
from metarule.runs.sweep_files import CELL_LOCK
from metarule.sweeps import claims
from metarule.sweeps.claims import publish, take

ROOT = Path(__file__).parents[2]
# Cells whose work is to wait. The package is a stub, so that no array library is imported and many trials are cheap.
WORKER = """
import os, sys, time, types
from pathlib import Path
for name in ("metarule", "metarule.config", "metarule.runs", "metarule.sweeps"):
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [str(Path(sys.argv[1], *name.split(".")))]
toml = sys.modules["metarule.config.toml"] = types.ModuleType("metarule.config.toml")
toml.ConfigError = ValueError
from metarule.sweeps.claims import publish, take

root = Path(sys.argv[2])
ready = Path(sys.argv[3])
(ready / str(os.getpid())).touch()
while len(list(ready.iterdir())) < 2:
    time.sleep(0.001)
while missing := [cell for cell in sorted(root.iterdir()) if not (cell / "done").exists()]:
    for cell in missing:
        lock = take(cell)
        if lock is None:
            continue
        with lock:
            if (cell / "done").exists():
                continue
            time.sleep(0.02)
            work = cell / f"work-{os.getpid()}"
            work.mkdir()
            (work / "owner").write_text(str(os.getpid()))
            assert publish(work, cell / "done")
            print(cell.name, flush=True)
    time.sleep(0.005)
"""


def test_a_folder_is_locked_until_it_is_released(tmp_path):
    with take(tmp_path):
        assert take(tmp_path) is None
    with take(tmp_path):
        pass


def test_a_lock_ends_with_its_process(tmp_path):
    code = f"""
import time
from pathlib import Path
from filelock import FileLock
lock = FileLock(Path({str(tmp_path)!r}) / {CELL_LOCK!r})
lock.acquire()
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert take(tmp_path) is None
        process.kill()
        process.wait()
    with take(tmp_path):
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def acquire(self, **options):
        raise NotImplementedError

    monkeypatch.setattr(claims.FileLock, "acquire", acquire)
    with pytest.raises(ConfigError, match="this file system has no locks"):
        take(tmp_path)


def test_a_published_folder_is_never_replaced(tmp_path):
    for text in ("first", "second"):
        (tmp_path / text).mkdir()
        (tmp_path / text / "result").write_text(text)
    assert publish(tmp_path / "first", tmp_path / "done")
    assert not publish(tmp_path / "second", tmp_path / "done")
    assert (tmp_path / "done" / "result").read_text() == "first"
    with pytest.raises(OSError):
        publish(tmp_path / "nothing", tmp_path / "elsewhere")


@pytest.mark.parametrize("trial", [*range(5), *(pytest.param(trial, marks=pytest.mark.long) for trial in range(5, 50))])
def test_two_processes_finish_every_cell_once_when_one_is_killed(trial, tmp_path):
    names = [f"{number:02d}" for number in range(10)]
    cells, ready = tmp_path / "cells", tmp_path / "ready"
    for folder in (ready, *(cells / name for name in names)):
        folder.mkdir(parents=True)
    command = [sys.executable, "-c", WORKER, str(ROOT), str(cells), str(ready)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    while len(list(ready.iterdir())) < 2:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.005)
    time.sleep(random.Random(trial).uniform(0, 0.15))
    workers[0].kill()
    printed = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert workers[1].returncode == 0
    owners = {name: int((cells / name / "done" / "owner").read_text()) for name in names}
    assert set(owners.values()) <= {worker.pid for worker in workers}
    # A killed process may have published a cell that it had no time to print.
    finished = [*printed[0], *printed[1]]
    assert len(set(finished)) == len(finished)
    assert set(printed[1]) == {name for name, pid in owners.items() if pid == workers[1].pid}
