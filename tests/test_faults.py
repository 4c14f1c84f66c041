"""A few of the faults of `benchmarks.faults`: nothing is lost, and nothing is silent."""

import random
import shutil

import pytest

from benchmarks.disasters import disks, kills, shared
from benchmarks.disasters.runs import EVERY, STEPS, differences, finished, resume, taken, uninterrupted


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, programs):
    return uninterrupted(tmp_path_factory.mktemp("runs") / "whole", programs)


@pytest.mark.parametrize("kind", ["checkpoint", "final evaluation"])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(kind, whole, programs, tmp_path):
    row = kills.kill(kind, tmp_path / "a run", programs, whole, random.Random(1))
    assert row["struck"]
    assert row["lost"] == ""
    assert taken(tmp_path / "a run") == STEPS


def test_who_dies_takes_nothing_along_and_one_process_goes_on_where_two_were(whole, programs, tmp_path):
    row = shared.kill_one(tmp_path / "run", programs, whole, random.Random(3))
    assert row["struck"]
    assert 0 < row["at"] < STEPS
    assert row["again"] <= EVERY
    assert row["lost"] == ""


def test_what_is_torn_when_no_file_may_grow_is_mended(whole, programs, tmp_path):
    row = disks.fail("no file may grow", tmp_path / "run", programs, whole, random.Random(1))
    assert row["struck"]
    assert row["lost"] == ""
    # and now without any checkpoint
    metrics = tmp_path / "run" / "metrics.jsonl"
    (tmp_path / "run" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = metrics.read_bytes()
    status, says = finished(resume(tmp_path / "run", programs))
    assert status == 2
    assert f"no checkpoint is left of {STEPS} meta-steps; start anew with --overwrite" in says
    assert says.count("\n") == 1
    assert metrics.read_bytes() == before


def test_what_differs_is_named(whole, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(whole.path, other)
    assert differences(other, whole.path) == []
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))
    shutil.rmtree(other / "checkpoints" / str(STEPS))
    (other / "config.toml").write_text("")
    assert differences(other, whole.path) == ["last checkpoint", "metrics.jsonl", "config.toml"]
