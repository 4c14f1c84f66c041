"""Bounds of the weights."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["bounded"]


def bounded(weight: Float[Array, "pre post"], bound: float | Float[Array, ""]) -> Float[Array, "pre post"]:
    """Clip weights to ±bound, where the number ∞ is no bound; clipped weights have no derivative."""
    if isinstance(bound, float) and math.isinf(bound):
        return weight
    # `jnp.clip` splits the derivative where a weight equals the bound, which costs a division at every weight.
    return jax.lax.clamp(jnp.asarray(-bound, weight.dtype), weight, jnp.asarray(bound, weight.dtype))
