"""Forms are checked against each other, and what cannot be timed is said."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.speeds import contest as module
from benchmarks.speeds.contest import contest
from benchmarks.speeds.forms import BOUND, FORMS, Form, Outcome, Prepared, TooLarge
from benchmarks.speeds.problem import Size

SIZE = Size(2, 3, 1, 12, 2)
SECONDS, ROOM = 0.01, 2**30
GRADIENTS = np.array([[1.0, 2.0], [3.0, 4.0]])


def by_form(rows):
    return {row["form"]: row for row in rows}


def giving(losses, gradients, note=""):
    outcome = Outcome(np.array(losses), None if gradients is None else np.array(gradients))

    def call():
        time.sleep(0.02)
        return outcome

    prepared = Prepared(call, lambda raw: raw, note=note)
    return Form("seven", BOUND, lambda size, lifetimes, room: prepared)


def raising(error):
    def prepare(size, lifetimes, room):
        raise error

    return Form("seven", BOUND, prepare)


def run(monkeypatch, **forms):
    monkeypatch.setattr(module, "FORMS", {"C": giving([1.0, 2.0], GRADIENTS)} | forms)
    return by_form(contest(SIZE, ["C", *forms], SECONDS, ROOM))


def test_forms_come_to_the_same_and_are_timed():
    with_c = ["C", "C, without_bound"] if shutil.which("gcc") else []
    rest = [
        "metarule",
        "metarule, without_bound",
        "metarule, summed",
        "metarule, MLP",
        "literature",
        "numpy, forward pass",
    ]
    rows = contest(SIZE, [*with_c, *rest], SECONDS, ROOM)
    assert [row["form"] for row in rows] == [name for name in FORMS if name in with_c + rest]
    found = by_form(rows)
    for row in rows:
        assert (row["size"], row["steps"], row["lives"], row["note"]) == ("2-3-1", 12, 2, "")
        assert row["runs"] >= 2
        assert 0 < row["minimum_ms"] <= row["median_ms"]
        assert row["lives_per_second"] == pytest.approx(2e3 / row["minimum_ms"])
        assert (row["ratio"] is not None) == bool(with_c)
    for name in ("metarule, summed", "literature", "numpy, forward pass"):
        assert found[name]["difference"] < 1e-5
    assert found["metarule, MLP"]["difference"] is None
    assert found["literature"]["temporary_bytes"] > 0
    assert found["numpy, forward pass"]["temporary_bytes"] is None


@pytest.mark.parametrize("name", ["PyTorch", "TorchOpt"])
def test_what_comes_with_the_extra_comes_to_the_same(name):
    pytest.importorskip("torch")
    pytest.importorskip("torchopt")
    found = by_form(contest(SIZE, ["metarule", name], SECONDS, ROOM))
    assert found[name]["note"] == ""
    assert found[name]["difference"] < 1e-5


def test_a_wrong_gradient_is_said_and_not_timed(monkeypatch):
    found = run(
        monkeypatch,
        wrong=giving([1.0, 2.0], GRADIENTS + 0.1),
        near=giving([1.0, 2.0], GRADIENTS + 0.001),
        summed=giving(3.0, GRADIENTS.sum(0)),
        forwards=giving([1.0, 2.4], None),
        broken=giving([1.0, np.nan], GRADIENTS),
    )
    assert found["wrong"]["note"] == "WRONG: off by 0.03"
    assert found["wrong"]["difference"] == pytest.approx(0.025)
    assert (found["wrong"]["runs"], found["wrong"]["minimum_ms"], found["wrong"]["ratio"]) == (0, None, None)
    assert found["near"]["note"] == found["summed"]["note"] == ""
    assert found["near"]["difference"] == pytest.approx(0.00025)
    assert found["summed"]["difference"] == 0
    assert found["forwards"]["note"] == "WRONG: off by 0.2"
    assert found["broken"]["note"] == "WRONG: not finite"
    assert found["C"]["ratio"] == 1


def test_what_is_missing_is_said_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    size = Size(3, 2, 1, 10, 2)  # no other test has compiled it
    found = by_form(contest(size, ["C", "PyTorch", "torch.compile", "TorchOpt", "numpy, forward pass"], SECONDS, ROOM))
    assert found["C"]["note"] == "not installed: gcc"
    for name in ("PyTorch", "torch.compile", "TorchOpt"):
        assert found[name]["note"] == "not installed: torch"
    assert found["numpy, forward pass"]["runs"] >= 2
    assert found["numpy, forward pass"]["ratio"] is None


def test_torchopt_alone_may_be_missing(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torchopt", None)
    (row,) = contest(SIZE, ["TorchOpt"], SECONDS, ROOM)
    assert row["note"] == "not installed: torchopt"


def test_forms_that_fail_do_not_end_the_others(monkeypatch):
    found = run(
        monkeypatch,
        large=raising(TooLarge("one lifetime takes 22.0 GiB")),
        broken=raising(RuntimeError("no room\nat all")),
        compiler=raising(subprocess.CalledProcessError(1, "gcc")),
        fine=giving([1.0, 2.0], GRADIENTS, note="lives side by side: 2"),
    )
    assert found["large"]["note"] == "does not fit: one lifetime takes 22.0 GiB"
    assert found["broken"]["note"] == "failed: RuntimeError: no room"
    assert found["compiler"]["note"].startswith("failed: CalledProcessError: ")
    assert found["fine"]["note"] == "lives side by side: 2"
    assert found["fine"]["runs"] >= 2
