"""Scores of a network from its answers, and what one that diverged has scored."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.tasks.base import primary_metric
from metarule.types import Metrics, TaskFamily

__all__ = ["DIVERGED", "scores_of"]

# Among the metrics of a network: 1 where it diverged, else 0.
DIVERGED = "diverged"


def scores_of(
    tasks: TaskFamily, weights: Any, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]
) -> Metrics:
    """Score a network by its answers to the assessed examples.

    A network with an output or a weight that is not finite has diverged. Comparisons with NaN are false, which may be
    the right answer, so that its answers are not looked at: it has solved nothing, its score is 0, less than chance,
    and the other metrics of the family are NaN.

    Args:
        tasks: the family, which says what is measured.
        weights: of the network.
        output: its answers.
        target: what was wanted.

    Returns:
        The metrics of the family, and `diverged`.
    """
    numbers = (output, *jax.tree.leaves(weights))
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in numbers]))
    measured = tasks.metrics(output, target)
    if DIVERGED in measured:
        raise ValueError(f"tasks: '{DIVERGED}' is no name for a metric of a family; every network has one of that name")
    nothing = {name: 0.0 if name == primary_metric(tasks) else jnp.nan for name in measured}
    kept = {name: jnp.where(finite, value, nothing[name]) for name, value in measured.items()}
    return kept | {DIVERGED: 1.0 - finite.astype(target.dtype)}
