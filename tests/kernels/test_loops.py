"""Transformations of a compiled loop give what those of a scan give."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import assert_same

from metarule.lifetime.scans import Remat, loop

pytestmark = pytest.mark.usefixtures("float64")

LENGTH = 5
MASK = np.array([[True, False], [True, True], [False, True]])


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape) / 2


THETA, WEIGHT, TRACE, GATES, XS = draw(3), draw(3, 2), draw(3) / 4, draw(LENGTH) > 0, draw(LENGTH, 2)


def lifetime(theta, weight=WEIGHT, trace=TRACE, xs=XS, mask=MASK, gates=GATES, scan=loop):
    """State after a few steps, and observables: constants, states and stimuli of several shapes, and truth values."""

    def step(carry, x):
        weight, (trace,) = carry
        stimulus, gate = x
        post = jnp.tanh(weight @ stimulus * theta + trace)
        change = jnp.where(mask, jnp.einsum("i,j->ij", post, stimulus), 0.1 * weight)
        weight = jnp.clip(jnp.where(gate, weight + 0.3 * change, weight), -0.9, 0.9)
        return (weight, (0.9 * trace + 0.1 * post,)), {"post": post, "mean": jnp.mean(weight)}

    return scan(step, (jnp.asarray(weight), (jnp.asarray(trace),)), (xs, gates))


def loss(*operands, **named):
    (weight, (trace,)), along = lifetime(*operands, **named)
    return jnp.sum(weight**2) + jnp.sum(trace * jnp.arange(3)) + jnp.sum(along["post"] ** 3) + jnp.sum(along["mean"])


GRADIENT = jax.value_and_grad(loss, (0, 1, 2, 3))


@pytest.mark.parametrize("scan", [loop, Remat()])
def test_a_loop_and_its_gradient(scan):
    assert_same(partial(GRADIENT, scan=scan), THETA, WEIGHT, TRACE, XS)


def test_a_loop_that_runs_without_jit_is_compiled_too():
    eager = loss(THETA)
    np.testing.assert_allclose(eager, jax.jit(loss)(THETA), rtol=1e-14)


def decay(theta, start, xs):
    """The loss of a loop with few operations."""
    after, along = loop(lambda state, x: (jnp.tanh(state * theta + x), state), start, xs)
    return jnp.sum(after) + jnp.sum(along**3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_lifetimes(dtype):
    """A vector has 16 numbers of single precision, or 8 of double precision."""
    gradient = jax.vmap(jax.value_and_grad(decay, (0, 1, 2)), (None, 0, 0))
    theta = THETA.astype(dtype)

    def each(starts, xs):
        return {lifetimes: gradient(theta, starts[:lifetimes], xs[:lifetimes]) for lifetimes in (1, 15, 16, 17, 33)}

    assert_same(each, draw(33, 3).astype(dtype), draw(33, LENGTH).astype(dtype))


NESTED = {
    "each its own": ((None, 0, None, None), (0, None, None, None), (draw(4, 3), draw(3, 3, 2), TRACE, XS)),
    "mixed": ((0, 0, None, 1), (0, None, 0, None), (draw(4, 3, 3), draw(3, 3, 2), draw(4, 3), draw(LENGTH, 3, 2))),
    "stimuli alone": ((None, None, None, 0), (None, None, None, 0), (THETA, WEIGHT, TRACE, draw(2, 3, LENGTH, 2))),
    "the outer alone": ((None,) * 3 + (0,), (0, None, None, None), (draw(2, 3), WEIGHT, TRACE, draw(3, LENGTH, 2))),
}


@pytest.mark.parametrize("case", NESTED)
def test_nested_batches_are_one_axis_of_lanes(case):
    inner, outer, operands = NESTED[case]
    function = jax.vmap(jax.vmap(GRADIENT, inner), outer)
    assert_same(function, *operands)
    assert "while" not in jax.jit(function).lower(*operands).as_text()


def test_three_nested_batches_with_another_output_axis():
    inner = jax.vmap(loss, (0, None, None))
    function = jax.vmap(jax.vmap(inner, (None, 2, None), out_axes=1), (None, None, 0), out_axes=2)
    assert_same(function, draw(2, 3), draw(3, 2, 4), draw(5, 3))


def test_truth_values_of_each_lifetime():
    masks, gates = np.stack([MASK, ~MASK]), np.stack([GATES, ~GATES])
    gradient = jax.grad(lambda theta, mask, gates: loss(theta, mask=mask, gates=gates))
    assert_same(jax.vmap(gradient, (None, 0, 0)), THETA, masks, gates)


def test_the_gradient_of_a_sum_over_lifetimes_that_share_theta():
    total = lambda theta, weights: jnp.sum(jax.vmap(loss, (None, 0))(theta, weights))
    assert_same(jax.grad(total, (0, 1)), THETA, draw(9, 3, 2))


def test_forward_mode_and_linear_maps():
    def tangents(theta, weight):
        outputs = jax.jvp(lifetime, (theta, weight), (2 * theta, weight**2))
        linear = jax.linearize(lambda theta: lifetime(theta)[1]["post"], theta)[1]
        return outputs, linear(theta), jax.jacfwd(loss)(theta)

    assert_same(tangents, THETA, WEIGHT)


def test_many_cotangents_of_one_lifetime():
    def rows(theta):
        return jax.vmap(jax.vjp(lambda theta: lifetime(theta)[1]["post"], theta)[1])(draw(4, LENGTH, 3))

    assert_same(rows, THETA)


def test_second_derivatives_by_forward_and_by_reverse_mode():
    def second(theta):
        return loss(theta), jax.hessian(loss)(theta), jax.jacrev(jax.jacrev(loss))(theta)

    assert_same(second, THETA)


def test_second_derivatives_of_a_batch_and_third_ones():
    value = lambda theta: decay(theta, TRACE, XS[:, 0])
    curvature = lambda theta: jnp.sum(jax.hessian(value)(theta) ** 2)
    assert_same(jax.vmap(lambda theta: (value(theta), *jax.value_and_grad(curvature)(theta))), draw(2, 3))


def test_checkpoints_scans_branches_and_maps_around_a_loop():
    def total(theta, weights):
        kept = jnp.sum(jax.vmap(jax.checkpoint(loss), (None, 0))(theta, weights))
        repeated = jax.lax.scan(lambda sum, _: (sum + 0.1 * loss(theta * sum), None), jnp.ones(()), None, 2)[0]
        chosen = jax.lax.cond(theta[0] > 0, loss, lambda theta: 2.0 * loss(-theta), theta)
        mapped = jnp.sum(jax.lax.map(lambda weight: loss(theta, weight), weights, batch_size=2))
        return kept + repeated * chosen + mapped

    assert_same(jax.grad(total, (0, 1)), THETA, draw(3, 3, 2))


# Steps in which something is missing, unused or passed on: start, and (start, stimuli) → (state, observables).
SCALE = draw(2)
STEPS = {
    "a scalar": (0.3, lambda c, x: (jnp.tanh(c * x), c)),
    "no observables": (SCALE, lambda c, x: (jnp.tanh(c * x), None)),
    "stimuli that are not read": (SCALE, lambda c, x: (jnp.tanh(c), None)),
    "states that change places": ((SCALE, 2 * SCALE), lambda c, x: ((c[1], c[0] * x), None)),
    "a state twice": ((SCALE, 2 * SCALE), lambda c, x: ((c[1], c[1]), c[0])),
    "a state that does not change": ((SCALE, SCALE), lambda c, x: ((c[0], c[1] * x + c[0]), None)),
    "an empty state": ((SCALE, np.zeros((0, 3))), lambda c, x: ((c[0] * x, c[1]), None)),
    "a state that is forgotten": (SCALE, lambda c, x: (jnp.ones(2), c * x)),
    "a stimulus that is shown": (SCALE, lambda c, x: (c * x, (x, SCALE))),
}


def test_steps_in_which_something_is_missing_or_passed_on():
    xs = draw(LENGTH)

    def total(start, xs, step):
        return sum(map(jnp.sum, jax.tree.leaves(loop(step, jax.tree.map(jnp.asarray, start), xs))))

    def all_steps(starts, xs):
        each = {name: jax.grad(total, (0, 1))(starts[name], xs, step) for name, (_, step) in STEPS.items()}
        return each, {name: total(starts[name], xs[:1], step) for name, (_, step) in STEPS.items()}

    assert_same(all_steps, {name: start for name, (start, _) in STEPS.items()}, xs)


def test_python_numbers_and_arrays_of_numpy():
    assert_same(lambda start: loop(lambda c, x: (c * x[0] * start, c * x[1]), 1.0, (draw(4), np.arange(4) > 1)), 0.5)


def test_a_long_loop_is_cut_into_segments_of_which_one_is_shorter():
    start, xs = draw(256), np.linspace(0, 1, 600)
    step = lambda c, x: (0.9 * c + 0.1 * x * c[::-1], c[:2])
    total = lambda start: sum(map(jnp.sum, loop(step, start, xs)))
    assert_same(jax.value_and_grad(total), start)
    assert "while" in jax.jit(total).lower(start).as_text(), "no segments"
    assert "while" not in jax.jit(lambda start: loop(step, start, xs[:9])).lower(start).as_text()
