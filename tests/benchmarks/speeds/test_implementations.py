"""Implementations are checked against each other and timed; lifetimes are split where they do not fit."""

import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from benchmarks.speeds import implementations
from benchmarks.speeds.implementations import (
    IMPLEMENTATIONS,
    Implementation,
    Outcome,
    Prepared,
    TooLarge,
    compared,
    compared_experiment,
)
from benchmarks.speeds.library import stated
from benchmarks.speeds.problem import THETA, Size, draw
from metarule import Feedforward, Gradient, InnerLoop
from metarule.kernels import choice
from metarule.runs.experiment import Experiment

SIZE, SMALL = Size(2, 3, 1, 12, 2), Size(2, 3, 1, 4, 4)
SECONDS, MEMORY = 0.01, 2**30
BOTH = ("metarule, kernel", "metarule, XLA")
GRADIENTS = np.array([[1.0, 2.0], [3.0, 4.0]])


def by_name(rows):
    return {row["form"]: row for row in rows}


def returning(losses, gradients, note=""):
    outcome = Outcome(np.array(losses), None if gradients is None else np.array(gradients))

    def call():
        time.sleep(0.02)
        return outcome

    prepared = Prepared(call, lambda raw: raw, note=note)
    return Implementation("seven", lambda size, lifetimes, memory: prepared)


def raising(error):
    def prepare(size, lifetimes, memory):
        raise error

    return Implementation("seven", prepare)


def run(monkeypatch, **others):
    monkeypatch.setattr(implementations, "IMPLEMENTATIONS", {"C": returning([1.0, 2.0], GRADIENTS)} | others)
    return by_name(compared(SIZE, ["C", *others], SECONDS, MEMORY))


@pytest.mark.long
def test_implementations_agree_and_are_timed():
    with_c = ["C", "C, without bound"] if shutil.which("gcc") else []
    rest = [*BOTH, "metarule, XLA, without bound", "metarule, kernel, MLP", "literature", "numpy, forward pass"]
    rows = compared(SIZE, [*with_c, *rest], SECONDS, MEMORY)
    assert [row["form"] for row in rows] == [name for name in IMPLEMENTATIONS if name in with_c + rest]
    results = by_name(rows)
    for row in rows:
        assert (row["size"], row["steps"], row["lifetimes"]) == ("2-3-1", 12, 2)
        assert row["note"].startswith("lanes are ") if row["form"].startswith("C") else row["note"] == ""
        assert row["runs"] >= 2
        assert 0 < row["ms"] <= row["median_ms"]
        assert (row["ratio"] is not None) == bool(with_c)
        assert (row["compile_s"] is not None) == row["form"].startswith(("metarule", "literature"))
    for name in (BOTH[1], "literature", "numpy, forward pass", *(["metarule, XLA, without bound"] if with_c else [])):
        assert results[name]["difference"] < 1e-5
    assert results["metarule, kernel, MLP"]["difference"] is None
    assert results["literature"]["temporary_bytes"] > 0
    assert results["numpy, forward pass"]["temporary_bytes"] is None


@pytest.mark.parametrize("name", ["PyTorch", "TorchOpt"])
def test_libraries_of_the_extra_agree(name):
    pytest.importorskip("torch")
    pytest.importorskip("torchopt")
    results = by_name(compared(SIZE, ["metarule, XLA", name], SECONDS, MEMORY))
    assert results[name]["note"] == ""
    assert results[name]["difference"] < 1e-5


@pytest.mark.long
def test_a_loop_that_is_left_to_xla_is_named(monkeypatch):
    def noted():
        return [row["note"] for row in compared(Size(2, 3, 1, 3, 2), BOTH, SECONDS, MEMORY)]

    assert noted() == ["", ""]
    monkeypatch.setitem(choice._MOST, "cpu", (10, 1000))
    assert noted() == ["left to XLA: a state has more than 10 numbers", ""]


@pytest.mark.long
def test_a_config_is_timed_with_kernels_and_without():
    optimizer = Gradient(batch_size=3, steps=2)
    experiment = Experiment(circuit=Feedforward(hidden=(2,)), inner_loop=InnerLoop(steps=5), optimizer=optimizer)
    rows = compared_experiment("tiny", experiment, ["C", *BOTH], SECONDS)
    assert [(row["size"], row["form"], row["steps"], row["lifetimes"], row["note"]) for row in rows] == [
        ("tiny", name, 5, 3, "") for name in BOTH
    ]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"] < 1e-5
    for row in rows:
        assert row["compile_s"] > 0
        assert row["ms"] > 0
        assert row["ratio"] is None


def test_a_wrong_gradient_is_named_and_not_timed(monkeypatch):
    results = run(
        monkeypatch,
        wrong=returning([1.0, 2.0], GRADIENTS + 0.1),
        near=returning([1.0, 2.0], GRADIENTS + 0.001),
        forwards=returning([1.0, 2.4], None),
        broken=returning([1.0, np.nan], GRADIENTS),
    )
    assert results["wrong"]["note"] == "WRONG: off by 0.03"
    assert results["wrong"]["difference"] == pytest.approx(0.025)
    assert (results["wrong"]["runs"], results["wrong"]["ms"], results["wrong"]["ratio"]) == (0, None, None)
    assert results["near"]["note"] == ""
    assert results["near"]["difference"] == pytest.approx(0.00025)
    assert results["forwards"]["note"] == "WRONG: off by 0.2"
    assert results["broken"]["note"] == "WRONG: not finite"
    assert results["C"]["ratio"] == 1


def test_a_missing_library_is_named_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    size = Size(3, 2, 1, 10, 2)  # no other test has compiled it
    results = by_name(
        compared(size, ["C", "PyTorch", "torch.compile", "TorchOpt", "numpy, forward pass"], SECONDS, MEMORY)
    )
    assert results["C"]["note"] == "not installed: gcc"
    for name in ("PyTorch", "torch.compile", "TorchOpt"):
        assert results[name]["note"] == "not installed: torch"
    assert results["numpy, forward pass"]["runs"] >= 2
    assert results["numpy, forward pass"]["ratio"] is None


def test_torchopt_alone_may_be_missing(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torchopt", None)
    (row,) = compared(SIZE, ["TorchOpt"], SECONDS, MEMORY)
    assert row["note"] == "not installed: torchopt"


def test_a_failure_does_not_end_the_others(monkeypatch):
    results = run(
        monkeypatch,
        large=raising(TooLarge("one lifetime takes 22.0 GiB")),
        broken=raising(RuntimeError("no room\nat all")),
        compiler=raising(subprocess.CalledProcessError(1, "gcc")),
        fine=returning([1.0, 2.0], GRADIENTS, note="2 lifetimes a chunk"),
    )
    assert results["large"]["note"] == "does not fit: one lifetime takes 22.0 GiB"
    assert results["broken"]["note"] == "failed: RuntimeError: no room"
    assert results["compiler"]["note"].startswith("failed: CalledProcessError: ")
    assert results["fine"]["note"] == "2 lifetimes a chunk"
    assert results["fine"]["runs"] >= 2


def test_rules_start_with_the_stated_coefficients():
    seven, more = (stated(terms) for terms in ("seven", "taylor(pre, potential, weight, modulator; 2)"))
    np.testing.assert_array_equal(seven.init(jax.random.key(0)), np.float32(THETA))
    theta = dict(zip(more.names, more.init(jax.random.key(0)).tolist()))
    assert {name: value for name, value in theta.items() if value} == dict(zip(seven.names, np.float32(THETA).tolist()))


def test_lifetimes_of_the_literature_are_split_where_they_do_not_fit():
    implementation, lifetimes = IMPLEMENTATIONS["literature"], draw(SMALL)
    joint = implementation.prepare(SMALL, lifetimes, 2**30)
    split = implementation.prepare(SMALL, lifetimes, joint.temporary_bytes - 1)
    assert (joint.note, split.note) == ("", "2 lifetimes a chunk")
    for one, other in zip(joint.outcome(joint.call()), split.outcome(split.call())):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(TooLarge, match="one lifetime takes 0.0 GiB"):
        implementation.prepare(SMALL, lifetimes, 10)
