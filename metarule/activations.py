"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["ACTIVATIONS", "Activation", "derivative"]

Activation = Callable[[Float[Array, " n"]], Float[Array, " n"]]

# `choice` is the mean of a sampled choice: the probabilities.
ACTIVATIONS: dict[str, Activation] = {
    "choice": jax.nn.softmax,
    "identity": lambda potential: potential,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "softmax": jax.nn.softmax,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def derivative(f: Activation, potential: Float[Array, " n"]) -> Float[Array, " n"]:
    """Derivative f′(potential) of an elementwise activation.

    Args:
        f: elementwise activation.
        potential: potentials [n].

    Returns:
        f′ at each potential [n].
    """
    return jax.jvp(f, (potential,), (jnp.ones_like(potential),))[1]
