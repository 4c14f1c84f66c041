"""A lifetime that goes on from one meta-step to the next, for estimators that see a window of it at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from metarule.types import Learner, LearnerState, LifetimeContext, PRNGKey

__all__ = ["RunningLifetime", "continue_or_restart", "ended_lifetime", "is_over"]


class RunningLifetime(NamedTuple):
    """A life that goes on from one meta-step to the next.

    Attributes:
        context: its constant part.
        carry: state before the next step; it may have leading axes, one network each.
        time: number of the next step; where it is beyond the last one, the lifetime is over.
        start: first step of the lifetime after this one.
    """

    context: LifetimeContext
    state: LearnerState
    t: Int[Array, ""]
    start: Int[Array, ""]


def ended_lifetime(
    learner: Learner, window: int, staggered: bool, key: PRNGKey, copies: tuple[int, ...] = ()
) -> RunningLifetime:
    """What there is before the first lifetime: one that is over.

    It has the shape of a lifetime and is never lived, for the task of it is not the pool's.

    Args:
        learner: who will live.
        window: steps lived in a meta-step.
        staggered: let the first lifetime begin at a window drawn at random.
        key: decides which.
        copies: leading axes of the carry.

    Returns:
        A life that is over.
    """
    task = learner.tasks.sample(key, learner.tasks.split(0).train, 0)
    context, state = learner.init(key, task)
    windows = -(-learner.steps // window) if staggered else 1
    start = window * jax.random.randint(key, (), 0, windows, int)
    return RunningLifetime(context, _copied(state, copies), jnp.asarray(learner.steps, start.dtype), start)


def is_over(learner: Learner, ongoing: RunningLifetime) -> Bool[Array, ""]:
    """Whether the lifetime has come to its end, or to nothing: what diverged stays so."""
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(ongoing.state)]
    return (ongoing.t >= learner.steps) | ~jnp.all(jnp.stack(finite))


def continue_or_restart(
    learner: Learner, ongoing: RunningLifetime, task: PyTree, key: PRNGKey, copies: tuple[int, ...] = ()
) -> RunningLifetime:
    """The life as it is, or a new one where it is over.

    Args:
        learner: who lives.
        ongoing: the lifetime so far.
        task: what a new lifetime is lived through.
        key: decides the fresh weights of a new lifetime.
        copies: leading axes of the carry.

    Returns:
        A life that is not over.
    """
    context, state = learner.init(key, task)
    new = RunningLifetime(context, _copied(state, copies), ongoing.start, jnp.zeros_like(ongoing.start))
    return jax.tree.map(lambda new, old: jnp.where(is_over(learner, ongoing), new, old), new, ongoing)


def _copied(state: LearnerState, copies: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*copies, *leaf.shape)), state)
