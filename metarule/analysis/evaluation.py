"""What a θ is worth: its score on tasks, along the life and at its end."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from metarule.parallel.batching import abreast
from metarule.parallel.devices import everywhere
from metarule.types import Carry, Integer, Learner, Life, Metrics, PRNGKey, Theta

__all__ = ["Curves", "curves", "each_life", "final_metrics", "spread"]

T = TypeVar("T")

# Lives that run side by side; more of them would only take more memory.
_BATCH = 256


class Curves(NamedTuple):
    """Scores along many lives.

    Attributes:
        presentations: how many had been made at each point [points].
        metrics: by name [lifetimes, points]; see `metarule.tasks.scores` for networks that diverged.
        task: which task each met, as `TaskFamily.identity` numbers them [lifetimes]. Lifetimes on one task are not
            independent of each other.
    """

    presentations: Int[Array, " points"]
    metrics: dict[str, Float[Array, "lifetimes points"]]
    task: Int[Array, " lifetimes"]


@everywhere("learner", "lifetimes", "points")
def curves(
    learner: Learner,
    theta: Theta,
    pool: Any,
    key: PRNGKey,
    lifetimes: int,
    points: int | tuple[int, ...],
    tasks: Integer | None = None,
) -> Curves:
    """Assess fresh networks at several points of their lives, with θ frozen.

    Life number i meets task number i of the pool, or i mod `tasks`, so that a finite family is met evenly. Learners
    that are given the same key meet the same tasks, in the same order, with the same initial weights.

    Args:
        learner: who lives.
        theta: θ.
        pool: tasks.
        key: decides weights, orders and whatever else is drawn.
        lifetimes: how many networks.
        points: how often a network is assessed after its birth, evenly spread, the end included; or the presentations
            after which it is assessed, in order. Beyond the length of a life it goes on in the same way.
        tasks: how many tasks of the pool are met; None for as many as there are.

    Returns:
        The curves, with the score at birth as first point.
    """
    ends = spread(learner.presentations, points) if isinstance(points, int) else (0, *points)

    def one_life(number: Integer) -> tuple[dict[str, Float[Array, " points"]], Int[Array, ""]]:
        task_key, life_key = jax.random.split(jax.random.fold_in(key, number))
        index = number if tasks is None else number % tasks
        life, carry = learner.birth(life_key, learner.tasks.sample(task_key, pool, index))

        def until(carry: Carry, span: tuple[Integer, Integer]) -> tuple[Carry, Metrics]:
            carry = _live_between(learner, theta, life, carry, *span)
            return carry, learner.assess(theta, life, carry)[1]

        _, metrics = jax.lax.scan(until, carry, (jnp.array([0, *ends[:-1]]), jnp.array(ends)))
        return metrics, jnp.asarray(learner.tasks.identity(pool, index))

    metrics, task = each_life(one_life, lifetimes)
    return Curves(jnp.array(ends), metrics, task)


def spread(presentations: int, points: int) -> tuple[int, ...]:
    """Birth, and points that are evenly spread over a life, the end included."""
    return tuple(int(end) for end in np.round(np.linspace(0, presentations, points + 1)))


@everywhere("learner", "lifetimes")
def final_metrics(
    learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> dict[str, Float[Array, " lifetimes"]]:
    """Scores of fresh networks at the end of their lives, with θ frozen; arguments as of `curves`."""
    seen = curves(learner, theta, pool, key, lifetimes, 1).metrics
    return {name: values[:, -1] for name, values in seen.items()}


def each_life(one_life: Callable[[Integer], T], lifetimes: int) -> T:
    """What becomes of lives number 0, 1, …, side by side as far as that is of use.

    Args:
        one_life: of the number of a life.
        lifetimes: how many.

    Returns:
        What it returns, with a leading axis over the lives.
    """
    return abreast(one_life, _BATCH)(jnp.arange(lifetimes))


def _live_between(learner: Learner, theta: Theta, life: Life, carry: Carry, start: Integer, end: Integer) -> Carry:
    return jax.lax.fori_loop(start, end, lambda time, carry: learner.step(theta, life, carry, time)[0], carry)
