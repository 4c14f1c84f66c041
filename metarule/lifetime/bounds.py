"""Bounds of the weights."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["bounded"]


def bounded(
    weight: Float[Array, "pre post"], bound: float | Float[Array, ""], lower: float | None = None
) -> Float[Array, "pre post"]:
    """Clip weights to [lower, bound], where the number ∞ is no bound; clipped weights have no derivative.

    Args:
        weight: weights.
        bound: upper bound.
        lower: lower bound; None for −bound.
    """
    if lower is None and isinstance(bound, float) and math.isinf(bound):
        return weight
    # `jnp.clip` splits the derivative where a weight equals the bound, which costs a division at every weight.
    return jax.lax.clamp(
        jnp.asarray(-bound if lower is None else lower, weight.dtype), weight, jnp.asarray(bound, weight.dtype)
    )
