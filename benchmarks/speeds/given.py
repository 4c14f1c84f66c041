"""Task family whose tasks are lists of stimuli."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct

from metarule.tasks.losses import binary_cross_entropy
from metarule.types import Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Given"]


class Given(Struct, frozen=True, kw_only=True):
    """Tasks that are lists of stimuli, the first of which is evaluated.

    Attributes:
        inputs: numbers in an input.
        outputs: numbers in a target.
    """

    inputs: int
    outputs: int

    @property
    def link(self) -> str:
        """Output activation for which the loss is made."""
        return "sigmoid"

    @property
    def score(self) -> str:
        """None: only the loss is used."""
        return "none"

    @property
    def min_steps(self) -> int:
        """Lifetimes of any length."""
        return 1

    @property
    def round_steps(self) -> int:
        """No rounds."""
        return 0

    def task_id(self, pool: Any, index: Integer) -> Integer:
        """Index of a task: no two are the same."""
        return index

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

    def loss(self, output: Float[Array, " outputs"], target: Float[Array, " outputs"]) -> Float[Array, ""]:
        """Binary cross-entropy."""
        return binary_cross_entropy(output, target)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n outputs"]) -> Metrics:
        """None."""
        return {}
