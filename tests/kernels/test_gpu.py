"""Kernels for GPUs, run by Pallas's interpreter on a CPU, and lowered for a GPU that is not there."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import lifetime_batches
import numpy as np
import pytest
from jax.extend.core import Literal

from metarule import Conditioning, ConditioningCircuit, Feedforward, InnerLoop, Lifetime, Remat, Reverse
from metarule.kernels import gpu, kernels, why_not
from metarule.kernels.loops import adjoint_p, forward_p
from metarule.kernels.packing import on_vectors
from metarule.kernels.scalars import UNARY

LANES = 128


@pytest.fixture(autouse=True)
def recent_gpu(monkeypatch):
    """Loops are prepared for a GPU; nothing runs on one."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(compute_capability="9.0")])


def interpreted(function, *arguments):
    """Results of a function whose loops run as kernels in Pallas's interpreter."""
    run, seen = on_vectors(partial(gpu._run, interpret=True), lambda _: LANES), []

    def evaluate(closed, *given):
        values = dict(zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *given], strict=True))
        read = lambda atom: jnp.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else values[atom]
        for equation in closed.jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            if equation.primitive in (forward_p, adjoint_p):
                seen.append(equation.primitive)
                results = run(*inputs, **equation.params)
            elif equation.primitive.name in ("jit", "pjit", "custom_jvp_call"):
                results = evaluate(equation.params.get("jaxpr") or equation.params["call_jaxpr"], *inputs)
            else:
                results = equation.primitive.bind(*inputs, **equation.params)
                results = results if equation.primitive.multiple_results else [results]
            values |= zip(equation.outvars, results, strict=True)
        return [read(atom) for atom in closed.jaxpr.outvars]

    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    results = jax.jit(partial(evaluate, closed))(*jax.tree.leaves(arguments))
    assert seen, "nothing ran as a kernel"
    return jax.tree.unflatten(jax.tree.structure(shape), results)


def by_xla(function, *arguments):
    with kernels("off"):
        return jax.jit(function)(*arguments)


def assert_equal(results, expected, tolerance):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance), results, expected
    )


# --- A loop with all kinds of operands


def step(gain, state, x):
    weights, trace = state
    potential = weights @ x["input"]
    response = jnp.where(x["shown"], jnp.tanh(potential), jnp.maximum(potential, 0.0))
    grown = jnp.clip(weights + gain * jnp.outer(response - trace, x["input"]), -2.0, 2.0)
    return (grown, 0.5 * trace + response), {"response": response, "always": jnp.ones(1, weights.dtype)}


def run_steps(scan, shared, gain, start, xs):
    return scan(lambda state, x: step(shared * gain, state, x), (start, jnp.zeros_like(start[:, 0])), xs)


def operands(lifetimes, dtype, steps=6):
    draw = np.random.default_rng(0)
    start = draw.normal(size=(lifetimes, 2, 3)).astype(dtype)
    shown = draw.random((lifetimes, steps)) < 0.5
    xs = {"input": draw.normal(size=(lifetimes, steps, 3)).astype(dtype), "shown": shown}
    gain = draw.uniform(0.1, 0.5, lifetimes).astype(dtype)
    return jax.tree.map(jnp.asarray, (np.asarray(0.8, dtype), gain, start, xs))


def loss_and_gradient(shared, gain, start, xs):
    """Of all lifetimes, with their states at the end, and with respect to all floats."""

    def loss(shared, gain, start, inputs):
        run = lambda gain, start, xs: run_steps(Remat(), shared, gain, start, xs)
        after, along = jax.vmap(run)(gain, start, xs | {"input": inputs})
        return jnp.sum(after[0] ** 2) + jnp.sum(along["response"] * along["always"]), after

    return jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True)(shared, gain, start, xs["input"])


@pytest.mark.parametrize("lifetimes", [3, LANES + 2])
def test_a_loop_equals_the_scan_with_the_gradient_of_each_operand(lifetimes):
    given = operands(lifetimes, "float32")
    assert_equal(interpreted(loss_and_gradient, *given), by_xla(loss_and_gradient, *given), 2e-5)


def test_a_loop_equals_the_scan_in_double_precision(float64):
    given = operands(3, "float64")
    assert_equal(interpreted(loss_and_gradient, *given), by_xla(loss_and_gradient, *given), 1e-12)


def test_divergence_of_some_lifetimes_stays_visible():
    shared, gain, start, xs = operands(4, "float32")
    given = shared, gain, start.at[::2].multiply(jnp.nan).at[1].multiply(1e38), xs
    results, expected = interpreted(loss_and_gradient, *given), by_xla(loss_and_gradient, *given)
    assert not np.isfinite(results[1][2][::2]).any()
    assert np.isfinite(results[1][2][3]).all()
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(np.isfinite(one), np.isfinite(other)), results, expected
    )


def test_functions_of_one_number_equal_those_of_xla():
    names = sorted(set(UNARY))
    xs = jnp.array([-jnp.inf, -3.0, -0.4, -1e-6, 0.0, 1e-6, 0.4, 0.6, 3.0, 80.0, jnp.inf, jnp.nan], jnp.float32)

    def results(xs):
        each = lambda state, x: (state, jnp.stack([getattr(jax.lax, name)(x + state) for name in names]))
        return Remat()(each, jnp.zeros((), jnp.float32), xs)[1]

    np.testing.assert_allclose(interpreted(results, xs), by_xla(results, xs), rtol=1e-6)


# --- Learners


BOOLEAN = lifetime_batches.lifetime(circuit=Feedforward(hidden=(2,)))
CONDITIONING = Lifetime(
    rule=lifetime_batches.SEVEN, circuit=ConditioningCircuit(), tasks=Conditioning(), inner_loop=InnerLoop(steps=520)
)


def gradient(learner):
    return jax.vmap(lambda *start: Reverse(scan=Remat()).from_start(learner, *start), (None, 0, 0))


@pytest.mark.parametrize("learner", [BOOLEAN, CONDITIONING], ids=["boolean", "conditioning"])
def test_the_gradient_of_a_learner_equals_that_of_the_scan(learner):
    theta, networks = lifetime_batches.setting(learner)
    results = interpreted(gradient(learner), theta, *networks)
    assert_equal(results, by_xla(gradient(learner), theta, *networks), 1e-4)


def test_a_whole_gradient_is_lowered_for_a_gpu():
    theta, networks = lifetime_batches.setting(BOOLEAN)
    lowered = lambda: jax.jit(gradient(BOOLEAN)).trace(theta, *networks).lower(lowering_platforms=("cuda",)).as_text()
    assert lowered().count("custom_call @mosaic_gpu") == 2
    with kernels("off"):
        assert "mosaic" not in lowered()


# --- Choice


def reason(numbers=4, operations=1):
    def body(state, x):
        for _ in range(operations):
            state = jnp.sin(state * x)
        return state, None

    return why_not(body, jnp.ones(numbers), jnp.ones(3))


def test_small_steps_run_as_kernels_and_larger_ones_in_a_scan():
    assert not reason()
    assert "128 numbers" in reason(numbers=129)
    assert "operations" in reason(numbers=100, operations=20)
    with kernels("on"):
        assert not reason(numbers=129)


@pytest.mark.parametrize("capability", ["8.0", "gfx942"])
def test_other_gpus_keep_the_scan(capability, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(compute_capability=capability)])
    assert "Hopper" in reason()


def test_tpus_keep_the_scan(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert "tpu" in reason()
