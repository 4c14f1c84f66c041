"""Presentation order of the examples of a classification."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from metarule.types import PRNGKey

__all__ = ["rounds"]


def rounds(key: PRNGKey, classes: int, count: int) -> Int[Array, "count classes"]:
    """Draw rounds of classes: each round has every class once, in random order.

    After k rounds a learner has seen exactly k examples of each class.

    Args:
        key: decides the orders.
        classes: number of classes.
        count: number of rounds.

    Returns:
        Numbers of the classes, by round and turn.
    """
    return jnp.argsort(jax.random.uniform(key, (count, classes)), axis=1)
