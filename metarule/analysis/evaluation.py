"""What a θ is worth: its score on tasks, along the lifetime and at its end."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from metarule.lifetime.unroll import step_at
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.tasks.base import task_id
from metarule.types import Integer, Learner, LearnerState, LifetimeContext, Metrics, PRNGKey, Theta

__all__ = ["Curves", "final_metrics", "learning_curves", "over_lifetimes", "spread"]

T = TypeVar("T")

# Lifetimes that run side by side; more of them would only take more memory.
_BATCH = 256


class Curves(NamedTuple):
    """Scores along many lifetimes.

    Attributes:
        steps: how many had been made at each point [points].
        metrics: by name [lifetimes, points]; see `metarule.tasks.scores` for networks that diverged.
        task: which task each met, as `TaskFamily.identity` numbers them [lifetimes]. Lifetimes on one task are not
            independent of each other.
    """

    steps: Int[Array, " points"]
    metrics: dict[str, Float[Array, "lifetimes points"]]
    task: Int[Array, " lifetimes"]


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
    """Assess fresh networks at several points of their lifetimes, with θ frozen.

    LifetimeContext number i meets task number i of the pool, or i mod `tasks`, so that a finite family is met evenly. Learners
    that are given the same key meet the same tasks, in the same order, with the same initial weights.

    Args:
        learner: who lives.
        theta: θ.
        pool: tasks.
        key: decides weights, orders and whatever else is drawn.
        lifetimes: how many networks.
        points: how often a network is assessed after its birth, evenly spread, the end included; or the steps
            after which it is assessed, in order. Beyond the length of a lifetime it goes on in the same way.
        tasks: how many tasks of the pool are met; None for as many as there are.

    Returns:
        The curves, with the score at birth as first point.
    """
    ends = spread(learner.steps, points) if isinstance(points, int) else (0, *points)

    def one_lifetime(number: Integer) -> tuple[dict[str, Float[Array, " points"]], Int[Array, ""]]:
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(key, number))
        index = number if tasks is None else number % tasks
        context, state = learner.init(lifetime_key, learner.tasks.sample(task_key, pool, index))

        def until(state: LearnerState, span: tuple[Integer, Integer]) -> tuple[LearnerState, Metrics]:
            state = _live_between(learner, theta, context, state, *span)
            return state, learner.evaluate(theta, context, state)[1]

        _, metrics = jax.lax.scan(until, state, (jnp.array([0, *ends[:-1]]), jnp.array(ends)))
        return metrics, jnp.asarray(task_id(learner.tasks, pool, index))

    metrics, task = over_lifetimes(one_lifetime, lifetimes)
    return Curves(jnp.array(ends), metrics, task)


def spread(steps: int, points: int) -> tuple[int, ...]:
    """Birth, and points that are evenly spread over a lifetime, the end included."""
    return tuple(int(end) for end in np.round(np.linspace(0, steps, points + 1)))


@sharded_jit("learner", "lifetimes")
def final_metrics(
    learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> dict[str, Float[Array, " lifetimes"]]:
    """Scores of fresh networks at the end of their lifetimes, with θ frozen; arguments as of `learning_curves`."""
    seen = learning_curves(learner, theta, pool, key, lifetimes, 1).metrics
    return {name: values[:, -1] for name, values in seen.items()}


def over_lifetimes(one_lifetime: Callable[[Integer], T], lifetimes: int) -> T:
    """What becomes of lifetimes number 0, 1, …, side by side as far as that is of use.

    Args:
        one_lifetime: of the number of a lifetime.
        lifetimes: how many.

    Returns:
        What it returns, with a leading axis over the lifetimes.
    """
    return batch_lifetimes(one_lifetime, _BATCH)(jnp.arange(lifetimes))


def _live_between(
    learner: Learner, theta: Theta, context: LifetimeContext, state: LearnerState, start: Integer, end: Integer
) -> LearnerState:
    return jax.lax.fori_loop(start, end, lambda t, state: step_at(learner, theta, context, state, t)[0], state)
