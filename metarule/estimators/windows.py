"""Lifetimes that continue from one meta-step to the next, for estimators that see one window at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from metarule.lifetime.unroll import either
from metarule.protocols import Learner
from metarule.types import LearnerState, LifetimeContext, PRNGKey, Theta

__all__ = ["RunningLifetime", "continue_or_restart", "ended_lifetime", "is_over"]


class RunningLifetime(NamedTuple):
    """A lifetime that continues from one meta-step to the next.

    Attributes:
        context: its constants.
        state: state before the next step; it may have leading axes, one network each.
        t: the next step; beyond the last one the lifetime is over.
        start: first step of the next lifetime.
    """

    context: LifetimeContext
    state: LearnerState
    t: Int[Array, ""]
    start: Int[Array, ""]


def ended_lifetime(
    learner: Learner, theta: Theta, window: int, staggered: bool, key: PRNGKey, copies: tuple[int, ...] = ()
) -> RunningLifetime:
    """Make a lifetime that is over, as the state before the first one; it is never run.

    Args:
        learner: the learner.
        theta: θ.
        window: steps of a window.
        staggered: let the first lifetime begin at a random window.
        key: decides which.
        copies: leading axes of the state.

    Returns:
        The lifetime.
    """
    task = learner.tasks.sample(key, learner.tasks.split(0).train, 0)
    context, state = learner.init(theta, key, task)
    windows = -(-learner.steps // window) if staggered else 1
    start = window * jax.random.randint(key, (), 0, windows, int)
    return RunningLifetime(context, _copied(state, copies), jnp.asarray(learner.steps, start.dtype), start)


def is_over(learner: Learner, lifetime: RunningLifetime) -> Bool[Array, ""]:
    """True if a lifetime has reached its end, or diverged."""
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(lifetime.state)]
    return (lifetime.t >= learner.steps) | ~jnp.all(jnp.stack(finite))


def continue_or_restart(
    learner: Learner,
    theta: Theta,
    lifetime: RunningLifetime,
    task: PyTree,
    key: PRNGKey,
    copies: tuple[int, ...] = (),
) -> RunningLifetime:
    """Continue a lifetime, or start a new one on the task where it is over, with fresh weights that the key decides."""
    context, state = learner.init(theta, key, task)
    new = RunningLifetime(context, _copied(state, copies), lifetime.start, jnp.zeros_like(lifetime.start))
    return either(is_over(learner, lifetime), new, lifetime)


def _copied(state: LearnerState, copies: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*copies, *leaf.shape)), state)
