"""Losses of one output, as functions of the activity of the output neurons."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct

__all__ = ["BINARY_CROSS_ENTROPY", "CROSS_ENTROPY", "ActivatedLoss", "binary_cross_entropy", "cross_entropy"]


class ActivatedLoss(Struct, frozen=True):
    """A loss together with the output activation that it is made for.

    Attributes:
        function: (output, target) → loss.
        activation: activation of the output neurons, by name.
    """

    function: Callable[[Float[Array, " outputs"], Float[Array, " targets"]], Float[Array, ""]]
    activation: str

    def __call__(self, output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
        """Loss of one output."""
        return self.function(output, target)


def binary_cross_entropy(output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
    """−Σ target·ln(output) + (1 − target)·ln(1 − output), in nats.

    It is at most −ln ε for each output, where ε is the resolution of floats near 1.
    """
    margin = jnp.finfo(output.dtype).eps
    output = jax.lax.clamp(margin, output, 1 - margin)
    return -jnp.sum(target * jnp.log(output) + (1 - target) * jnp.log1p(-output))


def cross_entropy(output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
    """−Σ target·ln(output), in nats, of probabilities that sum to 1."""
    return -jnp.sum(target * jnp.log(jnp.maximum(output, jnp.finfo(output.dtype).tiny)))


BINARY_CROSS_ENTROPY = ActivatedLoss(binary_cross_entropy, "sigmoid")
CROSS_ENTROPY = ActivatedLoss(cross_entropy, "softmax")
