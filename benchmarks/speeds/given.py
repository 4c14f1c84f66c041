"""Task family whose tasks are lists of stimuli."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct

from metarule.tasks.losses import BINARY_CROSS_ENTROPY, ActivatedLoss
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Given"]


class Given(Struct, frozen=True, kw_only=True):
    """Tasks that are lists of stimuli, repeated in order; the first is evaluated.

    Attributes:
        inputs: numbers in an input.
        outputs: numbers in a target.
    """

    inputs: int
    outputs: int

    @property
    def loss(self) -> ActivatedLoss:
        """Binary cross-entropy."""
        return BINARY_CROSS_ENTROPY

    def split(self, seed: Integer) -> Split:
        """Empty pools: nothing is drawn."""
        return Split(train=jnp.zeros(()), test=jnp.zeros(()))

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Stimulus:
        """A task of zeros, for its shape."""
        return Stimulus(jnp.zeros((1, self.inputs)), jnp.zeros((1, self.outputs)))

    def stimulus(self, task: Stimulus, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus t, modulo their number."""
        return jax.tree.map(lambda leaf: leaf[t % len(leaf)], task)

    def examples(self, task: Stimulus) -> Stimulus:
        """The first stimulus."""
        return jax.tree.map(lambda leaf: leaf[:1], task)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """None."""
        return {}
