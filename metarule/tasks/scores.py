"""Scores of a network, including diverged ones."""

from typing import Any

import jax
import jax.numpy as jnp

from metarule.protocols import ClosedLoop, TaskFamily
from metarule.tasks.base import primary_metric
from metarule.types import Metrics

__all__ = ["DIVERGED", "scores_of"]

# Metric of every network: 1 if it diverged, else 0.
DIVERGED = "diverged"


def scores_of(tasks: TaskFamily, metrics: Metrics, seen: Any) -> Metrics:
    """Metrics of a network, and `diverged`.

    A network has diverged if an output, a weight or, in a closed loop, a score is not finite. Its primary metric is 0,
    below chance, and its other metrics are NaN. Its outputs are ignored, because comparisons with NaN are false, which
    may be the right answer.

    Args:
        tasks: the task family.
        metrics: of the network, by name.
        seen: arrays of a network that are finite unless it has diverged.
    """
    if DIVERGED in metrics:
        raise ValueError(f"tasks: metric '{DIVERGED}' is reserved; allowed: other names")
    leaves = jax.tree.leaves((seen, metrics) if isinstance(tasks, ClosedLoop) else seen)
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    diverged = {name: 0.0 if name == primary_metric(tasks) else jnp.nan for name in metrics}
    scores = {name: jnp.where(finite, value, diverged[name]) for name, value in metrics.items()}
    return scores | {DIVERGED: 1.0 - finite.astype(float)}
