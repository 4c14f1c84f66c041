"""Loops are compiled unless they are large, the user says no, or something is missing; the log says why."""

import importlib.util
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiles

from metarule.kernels import choice, compiled_scan, kernels, why_not
from metarule.kernels.log import warn
from metarule.lifetime.scans import loop

XS = np.linspace(0.5, 1, 4, dtype=np.float32)


def small(state, x):
    return jnp.tanh(state * x), state


def run(start, step=small):
    return loop(step, start, jnp.asarray(XS))


@pytest.mark.parametrize("mode, expected", [("on", True), ("auto", True), ("off", False)])
def test_the_program_contains_machine_code_unless_it_is_switched_off(mode, expected):
    with kernels(mode):
        assert compiles(run, jnp.ones(3)) is expected
        assert (why_not(small, jnp.ones(3), XS) == "") is expected
        assert (compiled_scan(small, jnp.ones(3), XS) is not None) is expected
    with kernels("off"):
        assert why_not(small, jnp.ones(3), XS) == "kernels are off"


def test_a_program_of_one_mode_does_not_serve_another():
    compiled = jax.jit(run)
    texts = []
    for mode in ("on", "off", "on"):
        with kernels(mode):
            texts.append("@metarule_loop_" in compiled.lower(jnp.ones(3)).as_text())
    assert texts == [True, False, True]


@pytest.mark.parametrize("value", ["off", "on", "auto", "", None])
def test_the_variable_is_the_mode_that_is_set_first(value, monkeypatch):
    monkeypatch.delenv("METARULE_KERNELS", raising=False)
    if value is not None:
        monkeypatch.setenv("METARULE_KERNELS", value)
    specification = importlib.util.spec_from_file_location("another_choice", choice.__file__)
    another = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(another)
    assert another.kernels.value == (value or "auto")


@pytest.mark.parametrize("value", ["yes", "OFF", ""])
def test_another_mode_is_an_error_that_names_it(value):
    message = f"METARULE_KERNELS = '{value}': allowed: auto, on, off"
    with kernels(value):
        for function in (loop, compiled_scan, why_not):
            with pytest.raises(ValueError, match=message):
                function(small, jnp.ones(3), XS)


def test_a_state_of_many_numbers_is_left_to_xla_unless_asked_for():
    many = jnp.ones(7000)
    with kernels("auto"):
        assert why_not(small, many, XS) == "a state has more than 6,000 numbers"
        assert compiled_scan(small, many, XS) is None
    with kernels("on"):
        assert why_not(small, many, XS) == ""


def test_a_step_of_many_operations_is_left_to_xla_unless_asked_for():
    product = lambda state, x: (state @ (state * x), None)
    with kernels("auto"):
        assert why_not(product, jnp.ones((50, 50)), XS) == "a step has more than 100,000 operations"
        assert why_not(product, jnp.ones((10, 10)), XS) == ""
    with kernels("on"):
        assert why_not(product, jnp.ones((50, 50)), XS) == ""


EMPTY = {
    "no steps": (jnp.ones(3), XS[:0]),
    "no state": ((), XS),
    "a state without numbers": (jnp.ones((0, 3)), XS),
}


@pytest.mark.parametrize("case", EMPTY)
def test_an_empty_loop_is_left_to_xla(case):
    start, xs = EMPTY[case]
    with kernels("on"):
        assert why_not(lambda state, x: (state, x), start, xs) == "the loop is empty"
        after, ys = loop(lambda state, x: (state, x), start, jnp.asarray(xs))
    assert (jax.tree.map(jnp.shape, after), ys.shape) == (jax.tree.map(jnp.shape, start), xs.shape)


def test_numbers_that_are_no_floats_are_left_to_xla():
    with kernels("on"):
        assert why_not(lambda state, x: (state + 1, None), jnp.arange(3), XS) == "numbers of int32"
        words = lambda state, x: ((state[0] * x, state[1] + 1), None)
        assert why_not(words, (jnp.ones(3), jnp.arange(3, dtype=jnp.uint32)), XS) == "numbers of float32 and uint32"


def test_a_state_may_count_but_its_derivative_is_left_to_xla(caplog):
    """As optimisers of Optax do."""
    warn.cache_clear()
    step = lambda state, x: ((jnp.where(state[1] > 2, state[0] * x, state[0]), state[1] + 1), 0.9 ** state[1] * x)
    start, xs = (jnp.ones(3), jnp.zeros((), jnp.int32)), jnp.linspace(0.5, 1, 7)
    with kernels("on"):
        assert why_not(step, start, xs) == ""
        result = loop(step, start, xs)
    expected = jax.lax.scan(step, start, xs)
    assert result[0][1].dtype == jnp.int32
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6), result, expected)
    losses = [lambda x, scan=scan: jnp.sum(scan(step, (x, start[1]), xs)[0][0]) for scan in (loop, jax.lax.scan)]
    with kernels("on"):
        np.testing.assert_allclose(*(jax.grad(loss)(start[0]) for loss in losses), rtol=1e-6)
    assert caplog.messages[-1].endswith("the derivative of a step, because of integers in its state")


def test_a_loop_backwards_is_that_of_xla():
    with kernels("on"):
        result = loop(small, jnp.ones(3), jnp.asarray(XS), reverse=True)
    expected = jax.lax.scan(small, jnp.ones(3), XS, reverse=True)
    jax.tree.map(np.testing.assert_array_equal, result, expected)


def test_an_unknown_operation_is_left_to_xla_and_logged_once(caplog):
    step = lambda state, x: (jnp.tanh(jnp.fmod(state, x)), state)
    with kernels("on"), caplog.at_level(logging.WARNING, "metarule"):
        results = [run(jnp.array([0.3, 1.4, -0.8]), step) for _ in range(2)]
        assert not compiles(lambda start: run(start, step), jnp.ones(3))
        assert why_not(step, jnp.ones(3), XS) == "the primitive rem"
    (record,) = caplog.records
    assert record.getMessage().endswith("there is no kernel for the primitive rem")
    expected = jax.lax.scan(step, jnp.array([0.3, 1.4, -0.8]), XS)
    for result in results:
        jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6), result, expected)


def test_loops_that_are_large_are_no_warning(caplog):
    with kernels("auto"), caplog.at_level(logging.INFO, "metarule"):
        run(jnp.ones(7000))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "a time loop is left to XLA: a state has more than 6,000 numbers"


def test_without_llvmlite_all_loops_are_left_to_xla(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "llvmlite" else find(name))
    with kernels("on"):
        assert why_not(small, jnp.ones(3), XS) == "llvmlite is not installed"
        assert not compiles(run, jnp.ones(3))


def test_on_another_device_all_loops_are_left_to_xla(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with kernels("on"):
        assert why_not(small, jnp.ones(3), XS) == "the device is a tpu"
        assert compiled_scan(small, jnp.ones(3), XS) is None
