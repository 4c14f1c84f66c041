import jax
import jax.numpy as jnp
import numpy as np

from metarule.recordings.rewards import third_factor

REWARDS = np.array([1.0, np.nan, 0.0, 1.0])


def test_the_third_factor_is_the_reward():
    np.testing.assert_array_equal(third_factor(jnp.asarray(REWARDS), None), [1, 0, 0, 1])


def test_the_third_factor_is_the_reward_minus_the_average_of_those_before():
    found = jax.jit(third_factor)(jnp.asarray(REWARDS), jnp.asarray(0.75))
    # The average is 0, .25, .25, .1875 before each reward.
    np.testing.assert_allclose(found, [1, 0, -0.25, 1 - 0.1875], rtol=1e-6)


def test_the_derivative_by_the_decay_is_finite_where_no_reward_was_given():
    gradient = jax.jit(jax.grad(lambda decay: jnp.sum(third_factor(jnp.asarray(REWARDS), decay))))(0.75)
    # −(1 − λ) − (1 − λ)·λ, by λ
    np.testing.assert_allclose(gradient, 1 - (1 - 2 * 0.75), rtol=1e-6)
