"""Weights kept within their bound."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["bounded"]


def bounded(weight: Float[Array, "pre post"], bound: float | Float[Array, ""]) -> Float[Array, "pre post"]:
    """Weights kept within ±bound, if there is one; those beyond have no derivative.

    `jnp.clip` shares the derivative out where a weight equals the bound, and divides for that at every weight.

    Args:
        weight: weights.
        bound: largest size; the number ∞ for none.

    Returns:
        The same, bounded.
    """
    if isinstance(bound, float) and math.isinf(bound):
        return weight
    return jax.lax.clamp(jnp.asarray(-bound, weight.dtype), weight, jnp.asarray(bound, weight.dtype))
