"""Lifetimes stand side by side in the lanes of vectors, with a back end that only looks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.kernels.loops import Loop
from metarule.kernels.packing import on_vectors

STEPS, LANES = 2, 4


def a_loop():
    """A step with a constant, a pair of states, a stimulus that is a truth value, and an observable of two numbers."""
    step = lambda c, s, t, x: (s * c, jnp.where(x, t, -t), jnp.stack([s, s]))
    shapes = (jnp.ones(()), jnp.ones(()), jnp.ones((2, 1)), jnp.array(True))
    return Loop(jax.make_jaxpr(step)(*shapes), 1, 2)


def packed(lifetimes, batched, **params):
    """What a back end is given, the shapes that it is asked for, and what becomes of results that count up."""
    lead = lambda one: (lifetimes,) if one else ()
    numbers = np.arange(1.0, 1000.0, dtype=np.float32)
    constant, state, pair, gate = batched
    operands = [
        numbers[: lifetimes if constant else 1].reshape(lead(constant)),
        10 * numbers[: lifetimes if state else 1].reshape(lead(state)),
        100 * numbers[: 2 * (lifetimes if pair else 1)].reshape(*lead(pair), 2, 1),
        (np.arange(STEPS * (lifetimes if gate else 1)) % 2 == 0).reshape(*lead(gate), STEPS),
    ]
    seen = []

    def back_end(kernel, given, shapes):
        seen.extend([kernel, list(map(np.asarray, given)), [shape.shape for shape in shapes]])
        return [jnp.arange(np.prod(shape.shape), dtype=shape.dtype).reshape(shape.shape) for shape in shapes]

    results = on_vectors(back_end, lambda bits: {32: LANES}[bits])(
        *map(jnp.asarray, operands), loop=a_loop(), length=STEPS, batched=batched, **params
    )
    return *seen, results


def test_each_lane_is_a_lifetime_and_the_last_fills_the_last_block():
    kernel, (shared, constants, states, stimuli), _, _ = packed(5, (True,) * 4)
    assert (kernel.shared, kernel.active) == ((False,), None)
    assert shared.shape == (0,)
    np.testing.assert_array_equal(constants, [[[1, 2, 3, 4]], [[5, 5, 5, 5]]])
    assert states.shape == (2, 3, LANES)
    np.testing.assert_array_equal(states[0], [[10, 20, 30, 40], [100, 300, 500, 700], [200, 400, 600, 800]])
    np.testing.assert_array_equal(states[1][:, 0], [50, 900, 1000])
    np.testing.assert_array_equal(stimuli[0], [[[1, 1, 1, 1]], [[0, 0, 0, 0]]])
    assert stimuli.shape == (2, STEPS, 1, LANES)


def test_constants_that_all_lifetimes_share_are_given_once_and_states_are_copied():
    kernel, (shared, constants, states, stimuli), _, _ = packed(3, (False, True, False, False))
    assert kernel.shared == (True,)
    np.testing.assert_array_equal(shared, [1])
    assert constants.shape == (1, 0, LANES)
    np.testing.assert_array_equal(states, [[[10, 20, 30, 30], [100] * 4, [200] * 4]])
    np.testing.assert_array_equal(stimuli[0, :, 0], [[1] * 4, [0] * 4])


@pytest.mark.parametrize("lifetimes, blocks", [(1, 1), (4, 1), (9, 3)])
def test_results_are_those_of_the_lifetimes_alone(lifetimes, blocks):
    *_, shapes, (state, pair, observable) = packed(lifetimes, (True,) * 4)
    assert shapes[:2] == [(blocks, 3, LANES), (blocks, STEPS, 2, LANES)]
    assert state.shape == (lifetimes,)
    assert pair.shape == (lifetimes, 2, 1)
    assert observable.shape == (lifetimes, STEPS, 2)
    block, lane = divmod(lifetimes - 1, LANES)
    np.testing.assert_array_equal(state[-1], 12 * block + lane)
    np.testing.assert_array_equal(pair[-1, :, 0], 12 * block + lane + np.array([4, 8]))
    np.testing.assert_array_equal(observable[-1], 16 * block + lane + np.array([[0, 4], [8, 12]]))


def test_states_of_all_steps_are_stored_on_request():
    *_, shapes, results = packed(5, (True,) * 4, stored=True)
    assert shapes[2] == (2, STEPS, 3, LANES)
    assert results[3].shape == (5, STEPS, 3)


def test_one_lifetime_has_no_axis():
    *_, results = packed(1, (False,) * 4)
    assert [result.shape for result in results] == [(), (2, 1), (STEPS, 2)]
