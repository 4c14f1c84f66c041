"""The order in which the examples of a classification are presented."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from metarule.types import PRNGKey

__all__ = ["rounds"]


def rounds(key: PRNGKey, classes: int, count: int) -> Int[Array, "count classes"]:
    """Classes in rounds: each round shows every class once, in an order of its own.

    So after k rounds a learner has met exactly k examples of each class.

    Args:
        key: decides the orders.
        classes: how many.
        count: rounds.

    Returns:
        Number of the class, by round and turn.
    """
    return jnp.argsort(jax.random.uniform(key, (count, classes)), axis=1)
