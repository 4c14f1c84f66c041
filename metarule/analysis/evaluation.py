"""Scores of a θ on tasks, along lifetimes and at their end."""

import inspect
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import either, step_at
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.protocols import Learner
from metarule.tasks.base import primary_metric, task_id
from metarule.tasks.mixture import family_of
from metarule.tasks.subsets import numbered
from metarule.types import Integer, LearnerState, Metrics, PRNGKey, Theta

__all__ = [
    "Curves",
    "evaluate",
    "evenly_spaced",
    "final_metrics",
    "learning_curves",
    "map_lifetimes",
    "paired_curves",
    "sample_lifetime",
]

T = TypeVar("T")

# Lifetimes in a chunk; larger chunks take more memory and are not faster.
_CHUNK_SIZE = 256
# Steps in whose time a loop starts, about.
_CHUNK_COST = 10


class Curves(NamedTuple):
    """Scores along many lifetimes.

    Attributes:
        steps: steps before each point [points].
        metrics: by name [lifetimes, points]; see `metarule.tasks.scores` for networks that diverged.
        task: id of the task of each lifetime [lifetimes]. Lifetimes on the same task are not independent.
        family: number of the family of each task in a mixture; None without one.
    """

    steps: Int[Array, " points"]
    metrics: dict[str, Float[Array, "lifetimes points"]]
    task: Int[Array, " lifetimes"]
    family: Int[Array, " lifetimes"] | None = None


@sharded_jit("learner", "lifetimes", "points")
def learning_curves(
    learner: Learner,
    theta: Theta,
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    points: int | tuple[int, ...],
    tasks: Integer | None = None,
) -> Curves:
    """Evaluate fresh networks at several points of their lifetimes, with θ frozen.

    Lifetime i uses task i of the pool, or task i mod `tasks`, so that the tasks of a finite family are used equally
    often. Learners with the same key get the same tasks, orders and initial weights.

    Args:
        learner: the learner.
        theta: θ.
        pool: tasks.
        key: decides weights, orders and all other draws.
        lifetimes: number of networks.
        points: number of evenly spaced evaluations after step 0, the end included; or the steps after which to
            evaluate, in ascending order. Steps beyond the length of a lifetime continue it unchanged.
        tasks: number of tasks of the pool to use; None for as many as there are.

    Returns:
        The curves; the first point is the score at step 0.
    """
    return inspect.unwrap(paired_curves)((learner,), (theta,), pool, key, lifetimes, points, tasks)[0]


@sharded_jit("learners", "lifetimes", "points")
def paired_curves(
    learners: tuple[Learner, ...],
    thetas: tuple[Theta, ...],
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    points: int | tuple[int, ...],
    tasks: Integer | None = None,
) -> tuple[Curves, ...]:
    """Compute `learning_curves` of several learners of the same tasks in one program, which draws their tasks once.

    Args:
        learners: of equal tasks.
        thetas: θ of each.
        pool: tasks.
        key: decides all draws.
        lifetimes: number of networks.
        points: as of `learning_curves`.
        tasks: as of `learning_curves`.

    Returns:
        The curves of each learner.

    Raises:
        ValueError: learners of different tasks.
    """
    first = learners[0]
    if not all(one.tasks == first.tasks for one in learners):
        raise ValueError("learners: their tasks differ; allowed: learners of the same tasks")
    ends = evenly_spaced(first.steps, points) if isinstance(points, int) else (0, *points)

    def one_lifetime(number: Integer) -> tuple[list[Any], Int[Array, ""], Int[Array, ""] | None]:
        task, lifetime_key, index = sample_lifetime(first, pool, key, number, tasks)
        metrics = [_one_curve(*pair, task, lifetime_key, ends) for pair in zip(learners, thetas, strict=True)]
        return metrics, jnp.asarray(task_id(first.tasks, *numbered(pool, index))), family_of(task)

    curves, task, family = map_lifetimes(one_lifetime, lifetimes)
    return tuple(Curves(jnp.array(ends), metrics, task, family) for metrics in curves)


def _one_curve(
    learner: Learner, theta: Theta, task: Any, key: PRNGKey, ends: tuple[int, ...]
) -> dict[str, Float[Array, " points"]]:
    """Scores of one network after some steps."""
    context, state = learner.init(theta, key, task)
    size = _chunk([end - start for start, end in pairwise(ends)])

    def step(state: LearnerState, now: tuple[Integer, Bool[Array, ""]]) -> tuple[LearnerState, None]:
        t, over = now
        after, _ = step_at(learner, theta, context, state, t)
        return either(over, state, after), None

    def advance(state: LearnerState, segment: tuple[Integer, Integer]) -> tuple[LearnerState, Metrics]:
        start, end = segment

        def chunk(number: Integer, state: LearnerState) -> LearnerState:
            ts = start + number * size + jnp.arange(size)
            return loop(step, state, (ts, ts >= end))[0]

        state = jax.lax.fori_loop(0, (end - start + size - 1) // size, chunk, state)
        return state, learner.evaluate(theta, context, state)[1]

    return jax.lax.scan(advance, state, (jnp.array([0, *ends[:-1]]), jnp.array(ends)))[1]


@sharded_jit("learner", "lifetimes")
def final_metrics(
    learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> dict[str, Float[Array, " lifetimes"]]:
    """Scores of each fresh network at the end of its lifetime, with θ frozen; arguments as of `learning_curves`."""
    metrics = learning_curves(learner, theta, pool, key, lifetimes, 1).metrics
    return {name: values[:, -1] for name, values in metrics.items()}


def evaluate(learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int = 1024) -> Metrics:
    """Mean scores of fresh networks at the end of their lifetimes, with θ frozen and plasticity off while scoring.

    Args:
        learner: the learner.
        theta: θ.
        pool: tasks, such as `learner.tasks.split(0).test`.
        key: decides weights, orders and all other draws.
        lifetimes: number of networks.

    Returns:
        Mean of each metric, the primary metric first.
    """
    metrics = final_metrics(learner, theta, pool, key, lifetimes)
    primary_first = sorted(metrics, key=lambda name: name != primary_metric(learner.tasks))
    return {name: jnp.mean(metrics[name]) for name in primary_first}


def sample_lifetime(
    learner: Learner, pool: Any, key: PRNGKey, number: Integer, tasks: Integer | None = None
) -> tuple[Any, PRNGKey, Integer]:
    """Sample the task of a lifetime by its number, and the key that decides its weights and stimuli.

    Args:
        learner: the learner.
        pool: tasks.
        key: shared by all lifetimes; the number is folded into it.
        number: number of the lifetime.
        tasks: as of `learning_curves`.

    Returns:
        (task, key of the lifetime, index of the task in the pool).
    """
    task_key, lifetime_key = jax.random.split(jax.random.fold_in(key, number))
    index = number if tasks is None else number % tasks
    return learner.tasks.sample(task_key, *numbered(pool, index)), lifetime_key, index


def _chunk(gaps: Sequence[int]) -> int:
    """Steps of the loop that is repeated between evaluations; those beyond the next evaluation change nothing."""

    def cost(size: int) -> int:
        return sum(-(-gap // size) * (size + _CHUNK_COST) for gap in gaps)

    return min((size for size in set(gaps) if size), key=cost, default=1)


def evenly_spaced(steps: int, points: int) -> tuple[int, ...]:
    """Step 0 and `points` evenly spaced steps, the end included."""
    return tuple(int(end) for end in np.round(np.linspace(0, steps, points + 1)))


def map_lifetimes(one_lifetime: Callable[[Integer], T], lifetimes: int) -> T:
    """Map a function over the numbers 0, 1, … of lifetimes, in chunks; results get a leading axis."""
    return batch_lifetimes(one_lifetime, _CHUNK_SIZE)(jnp.arange(lifetimes))
