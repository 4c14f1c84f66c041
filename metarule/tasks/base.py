"""Defaults for the abilities that a task family lacks, and functions that families share."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from metarule.config.imports import is_users_own, other_arguments
from metarule.prng import run_key
from metarule.protocols import (
    ClosedLoop,
    HasTaskIds,
    InRounds,
    Loss,
    MinimumLength,
    OpenLoop,
    PrimaryMetric,
    TaskFamily,
)
from metarule.tracing import memoised
from metarule.types import Integer, PRNGKey, Reaction, Stimulus

__all__ = ["check_loop", "min_steps", "output_activation", "primary_metric", "reaction_loss", "round_steps"]
__all__ += ["rounds", "task_id"]

# Members of families besides those of every family.
_MEMBERS = {
    OpenLoop: ("loss", "examples", "metrics"),
    ClosedLoop: ("start", "sense", "react", "scores"),
}


def check_loop(tasks: TaskFamily) -> None:
    """Refuse a family that lacks members of its loop, which is closed if it has `react`, or has others than needed.

    Raises:
        ValueError: naming what is missing.
    """
    name, loop = type(tasks).__name__, ClosedLoop if hasattr(tasks, "react") else OpenLoop
    if missing := [member for member in _MEMBERS[loop] if getattr(tasks, member, None) is None]:
        allowed = " or ".join(", ".join(members) for members in _MEMBERS.values())
        raise ValueError(f"tasks: {name} lacks {', '.join(missing)}; allowed: a family with {allowed}")
    if is_users_own(type(tasks)) and (faults := list(other_arguments(type(tasks), loop, _MEMBERS[loop]))):
        raise ValueError(f"tasks: {name} {' and '.join(faults)}")


def reaction_loss(reaction: Reaction) -> Float[Array, ""]:
    """Loss of a step in a closed loop, which is −reward unless the task gives another."""
    return -reaction.reward if reaction.loss is None else reaction.loss


def output_activation(tasks: TaskFamily) -> str:
    """Activation of the output neurons that a loss or a closed loop is made for; empty if it does not say."""
    subject = tasks if isinstance(tasks, ClosedLoop) else tasks.loss if isinstance(tasks, OpenLoop) else None
    return subject.activation if isinstance(subject, Loss) else ""


def min_steps(tasks: TaskFamily) -> int:
    """Steps that a lifetime needs at least."""
    return tasks.min_steps if isinstance(tasks, MinimumLength) else 1


def round_steps(tasks: TaskFamily) -> int:
    """Steps of a round that shows one example of each class; 0 where stimuli are not in rounds."""
    return tasks.round_steps if isinstance(tasks, InRounds) else 0


def task_id(tasks: TaskFamily, pool: Any, index: Integer) -> Integer:
    """Number that is the same for two tasks of a pool if they differ only in labels, order or examples."""
    return tasks.task_id(pool, index) if isinstance(tasks, HasTaskIds) else index


@memoised
def primary_metric(tasks: TaskFamily) -> str:
    """Name of the metric to quote; without the ability `PrimaryMetric` the first of the metrics."""
    if isinstance(tasks, PrimaryMetric):
        return tasks.primary_metric

    def metrics(key: Any) -> Any:
        task = tasks.sample(key, tasks.split(0).train, 0)
        if isinstance(tasks, ClosedLoop):
            return list(tasks.scores(task, tasks.start(task)))
        assert isinstance(tasks, OpenLoop)
        examples: Stimulus = tasks.examples(task)
        output = jnp.zeros((examples.target.shape[0], tasks.outputs), examples.target.dtype)
        return list(tasks.metrics(output, examples.target))

    names: list[str] = []
    jax.eval_shape(lambda key: names.extend(metrics(key)), run_key(0))
    return names[0]


# Rows that are sorted by comparing all pairs; XLA's sort of a short row takes five times as long.
_FEW = 32


def rounds(key: PRNGKey, classes: int, count: int) -> Int[Array, "count classes"]:
    """Draw rounds of classes, by round and turn: each round has every class once, in random order."""
    draws = jax.random.uniform(key, (count, classes))
    if classes > _FEW:
        return jnp.argsort(draws, axis=1)
    numbers = jnp.arange(classes)
    one, other = draws[:, :, None], draws[:, None, :]
    is_first = numbers[None, :, None] < numbers[None, None, :]
    is_before = (one < other) | ((one == other) & is_first)
    places = jnp.sum(is_before, axis=1)
    is_there = places[:, :, None] == numbers[None, None, :]
    return jnp.sum(jnp.where(is_there, numbers[None, :, None], 0), axis=1)
