"""What stops weights, and what does not."""

import math

import jax
import jax.numpy as jnp
import pytest

from metarule.lifetime.bounds import bounded

WEIGHT = jnp.array([[-3.0, -2.0, 1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    "bound, kept, slope",
    [(2.0, [-2.0, -2.0, 1.0, 2.0, 2.0], [0.0, 0.0, 1.0, 0.0, 0.0]), (math.inf, [-3.0, -2.0, 1.0, 2.0, 3.0], [1.0] * 5)],
    ids=["a bound", "none"],
)
def test_weights_beyond_the_bound_are_stopped_and_have_no_derivative(bound, kept, slope):
    assert bounded(WEIGHT, bound).tolist() == [kept]
    assert jax.grad(lambda weight: jnp.sum(bounded(weight, bound)))(WEIGHT).tolist() == [slope]
    assert bounded(WEIGHT, jnp.asarray(bound)).tolist() == [kept]
