"""Meta-training as pure functions: everything that a seed decides, and nothing of a disk."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarule.streams import Purpose, stream
from metarule.types import Info, Integer, Learner, MetaOptimizer, PRNGKey, Theta

__all__ = ["advance", "begin", "train"]


def begin(learner: Learner, optimizer: MetaOptimizer, key: PRNGKey) -> Any:
    """State of a run before its first meta-step.

    Args:
        learner: who lives.
        optimizer: what moves θ.
        key: key of the run.

    Returns:
        State of the optimiser, with a fresh θ in it.
    """
    theta = learner.theta(stream(key, Purpose.THETA))
    return optimizer.init(learner, theta, stream(key, Purpose.OPTIMIZER))


@partial(jax.jit, static_argnames=("learner", "optimizer", "capacity"))
def advance(
    learner: Learner, optimizer: MetaOptimizer, pool: Any, state: Any, key: PRNGKey, count: Integer, capacity: int
) -> tuple[Any, Info]:
    """Some meta-steps in one call. Their number is data, so that one program serves every call.

    Args:
        learner: who lives.
        optimizer: what moves θ.
        pool: training tasks.
        state: state before.
        key: key of the run.
        count: meta-steps to take, at most `capacity`.
        capacity: length of what is returned.

    Returns:
        State after, and what was observed [capacity, …], of which the first `count` are filled.
    """
    step_key = stream(key, Purpose.META_STEPS)
    _, shapes = jax.eval_shape(lambda: optimizer.step(learner, pool, state, step_key))
    seen = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

    def body(number: Integer, carry: tuple[Any, Info]) -> tuple[Any, Info]:
        state, seen = carry
        state, info = optimizer.step(learner, pool, state, step_key)
        return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), seen, info)

    return jax.lax.fori_loop(0, count, body, (state, seen))


def train(learner: Learner, optimizer: MetaOptimizer, pool: Any, key: PRNGKey) -> tuple[Theta, Info]:
    """A whole meta-training as one pure function; `vmap` it over keys for many seeds.

    Args:
        learner: who lives.
        optimizer: what moves θ.
        pool: training tasks.
        key: key of the run.

    Returns:
        (learned θ, what was observed of each meta-step [steps, …]).
    """
    step_key = stream(key, Purpose.META_STEPS)
    state, seen = jax.lax.scan(
        lambda state, _: optimizer.step(learner, pool, state, step_key),
        begin(learner, optimizer, key),
        length=optimizer.steps,
    )
    return optimizer.theta(state), seen
