"""Clipping of weights."""

import math

import jax
import jax.numpy as jnp
import pytest

from metarule.lifetime.bounds import bounded

WEIGHT = jnp.array([[-3.0, -2.0, 1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    "bound, clipped, slope",
    [(2.0, [-2.0, -2.0, 1.0, 2.0, 2.0], [0.0, 0.0, 1.0, 0.0, 0.0]), (math.inf, [-3.0, -2.0, 1.0, 2.0, 3.0], [1.0] * 5)],
    ids=["a bound", "none"],
)
def test_clipped_weights_have_derivative_zero(bound, clipped, slope):
    assert bounded(WEIGHT, bound).tolist() == [clipped]
    assert jax.grad(lambda weight: jnp.sum(bounded(weight, bound)))(WEIGHT).tolist() == [slope]
    assert bounded(WEIGHT, jnp.asarray(bound)).tolist() == [clipped]
