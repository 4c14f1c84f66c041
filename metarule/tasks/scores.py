"""Scores of a network, including diverged ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.protocols import TaskFamily
from metarule.tasks.base import primary_metric
from metarule.types import Metrics

__all__ = ["DIVERGED", "scores_of"]

# Metric of every network: 1 if it diverged, else 0.
DIVERGED = "diverged"


def scores_of(
    tasks: TaskFamily, weights: Any, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]
) -> Metrics:
    """Metrics of a network from its outputs to the examples, and `diverged`.

    A network with an output or a weight that is not finite has diverged. Its primary metric is 0, below chance, and its
    other metrics are NaN. Its outputs are ignored, because comparisons with NaN are false, which may be the right
    answer.
    """
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in (output, *jax.tree.leaves(weights))]))
    metrics = tasks.metrics(output, target)
    if DIVERGED in metrics:
        raise ValueError(f"tasks: metric '{DIVERGED}' is reserved; allowed: other names")
    diverged = {name: 0.0 if name == primary_metric(tasks) else jnp.nan for name in metrics}
    scores = {name: jnp.where(finite, value, diverged[name]) for name, value in metrics.items()}
    return scores | {DIVERGED: 1.0 - finite.astype(target.dtype)}
