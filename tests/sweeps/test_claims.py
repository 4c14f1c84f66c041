"""One owner at a time, and nobody's cell is lost."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarule.sweeps.claims import Lost, publish, take

ROOT = Path(__file__).parents[2]
LONG = 60.0
# Cells that do nothing but take their time: no array library is started, so that many trials are cheap.
WORKER = """
import os, sys, time, uuid
from pathlib import Path
sys.modules["benchmarks"] = type(sys)("benchmarks")
sys.modules["benchmarks"].__path__ = [str(Path(sys.argv[1]) / "benchmarks")]
from metarule.sweeps.claims import Lost, publish, take

root = Path(sys.argv[2])
(Path(sys.argv[3]) / str(os.getpid())).touch()
while open_ := [cell for cell in sorted(root.iterdir()) if not (cell / "done").exists()]:
    for cell in open_:
        claim = None if (cell / "done").exists() else take(cell, 60.0)
        if claim is None:
            continue
        with claim:
            if (cell / "done").exists():
                continue
            time.sleep(0.02)
            work = cell / f"work-{uuid.uuid4().hex}"
            work.mkdir()
            (work / "owner").write_text(str(os.getpid()))
            claim.check()
            if publish(work, cell / "done"):
                print(cell.name, flush=True)
    time.sleep(0.005)
"""


def owner(claim):
    return json.loads(claim.file.read_text())


def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_folder_has_one_owner_until_it_is_given_back(tmp_path):
    with take(tmp_path, LONG) as claim:
        assert owner(claim)["pid"] == os.getpid()
        assert take(tmp_path, LONG) is None
        claim.check()
    assert take(tmp_path, LONG).file.name == "claim-000002.json"


def test_a_dead_process_of_this_host_is_taken_over_from_at_once(tmp_path):
    claim = take(tmp_path, LONG)
    claim.file.write_text(json.dumps(owner(claim) | {"pid": dead_pid()}))
    assert take(tmp_path, LONG) is not None
    with pytest.raises(Lost):
        claim.check()


@pytest.mark.parametrize("left", ['{"host": "elsewhere", "pid": 1}', "", "[]"], ids=["elsewhere", "torn", "no table"])
def test_who_is_not_heard_from_is_taken_over_from_after_the_lapse(left, tmp_path):
    claim = take(tmp_path, LONG)
    claim.file.write_text(left)
    assert take(tmp_path, LONG) is None
    long_ago = time.time() - LONG - 5
    os.utime(claim.file, (long_ago, long_ago))
    assert take(tmp_path, LONG) is not None


def test_a_claim_lapses_when_its_owner_says_and_not_when_another_would_like_it(tmp_path):
    claim = take(tmp_path, LONG)
    claim.file.write_text(json.dumps(owner(claim) | {"host": "elsewhere"}))
    a_while_ago = time.time() - LONG / 2
    os.utime(claim.file, (a_while_ago, a_while_ago))
    assert take(tmp_path, 1.0) is None


def test_the_owner_is_heard_from_while_it_works(tmp_path):
    with take(tmp_path, 0.3) as claim:
        before = claim.file.stat().st_mtime
        claim.file.write_text('{"host": "elsewhere"}')
        time.sleep(0.8)
        assert claim.file.stat().st_mtime > before
        assert take(tmp_path, 0.3) is None


def test_two_who_see_the_same_dead_owner_do_not_both_take_over(tmp_path, monkeypatch):
    claim = take(tmp_path, LONG)
    monkeypatch.setattr("benchmarks.claims._is_free", lambda file, lapse: True)
    monkeypatch.setattr("benchmarks.claims._latest", lambda folder: claim.file)
    assert take(tmp_path, LONG) is not None
    assert take(tmp_path, LONG) is None


def test_a_process_that_dies_as_it_claims_leaves_no_claim_that_says_nothing(tmp_path):
    dies = "import json, os; json.dump = lambda *_: os._exit(9)"
    claims = f"from pathlib import Path; from metarule.sweeps.claims import take; take(Path({str(tmp_path)!r}), 60.0)"
    code = f"{dies}; {claims}"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    assert take(tmp_path, LONG).file.name == "claim-000001.json"


def test_what_is_published_is_never_replaced(tmp_path):
    for text in ("first", "second"):
        (tmp_path / text).mkdir()
        (tmp_path / text / "result").write_text(text)
    assert publish(tmp_path / "first", tmp_path / "done")
    assert not publish(tmp_path / "second", tmp_path / "done")
    assert (tmp_path / "done" / "result").read_text() == "first"
    with pytest.raises(OSError):
        publish(tmp_path / "nothing", tmp_path / "elsewhere")


@pytest.mark.parametrize("trial", range(20))
def test_two_processes_finish_every_cell_once_when_one_is_killed(trial, tmp_path):
    names = [f"{number:02d}" for number in range(10)]
    cells, ready = tmp_path / "cells", tmp_path / "ready"
    for folder in (ready, *(cells / name for name in names)):
        folder.mkdir(parents=True)
    command = [sys.executable, "-S", "-c", WORKER, str(ROOT), str(cells), str(ready)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    while len(list(ready.iterdir())) < 2:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.005)
    time.sleep(random.Random(trial).uniform(0, 0.15))
    workers[0].kill()
    # A parent that waits makes a killed process one that is dead for all.
    printed = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert workers[1].returncode == 0
    theta_groups = {name: int((cells / name / "done" / "owner").read_text()) for name in names}
    assert set(theta_groups.values()) <= {worker.pid for worker in workers}
    # What a killed process finished it may have had no time to say; what was said was said once.
    said = sorted([*printed[0], *printed[1]])
    assert len(set(said)) == len(said)
    assert set(printed[1]) == {name for name, pid in theta_groups.items() if pid == workers[1].pid}
