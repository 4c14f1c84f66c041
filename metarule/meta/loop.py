"""Meta-training as pure functions: everything that a seed decides, and nothing of a disk."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarule.parallel.devices import sharded_jit
from metarule.prng import Purpose, stream
from metarule.types import Info, Integer, Learner, MetaOptimizer, Phase, PhaseOptimizer, PRNGKey, Theta

__all__ = ["advance", "begin", "phase_at", "train"]


@sharded_jit("learner", "optimizer")
def begin(learner: Learner, optimizer: MetaOptimizer, pool: Any, key: PRNGKey) -> Any:
    """State of a run before its first meta-step.

    Args:
        learner: who lives.
        optimizer: what moves θ.
        pool: training tasks.
        key: key of the run.

    Returns:
        State of the optimiser, with a fresh θ in it, each array with memory of its own, which `advance` takes.
    """
    theta = learner.theta(stream(key, Purpose.THETA))
    state = optimizer.init(optimizer.phases(learner)[0].learner, pool, theta, stream(key, Purpose.OPTIMIZER))
    return jax.tree.map(jnp.copy, state)


@sharded_jit("learner", "optimizer", "capacity", donated="state")
def advance(
    learner: Learner, optimizer: PhaseOptimizer, pool: Any, state: Any, key: PRNGKey, count: Integer, capacity: int
) -> tuple[Any, Info]:
    """Some meta-steps in one call. Their number is data, so that one program serves every call.

    Args:
        learner: who lives in this part of the run.
        optimizer: what moves θ in it.
        pool: training tasks.
        state: state before; its memory becomes that of the state after.
        key: key of the run.
        count: meta-steps to take, at most `capacity`.
        capacity: length of what is returned.

    Returns:
        State after, and what was observed [capacity, …], of which the first `count` are filled.
    """
    step_key = stream(key, Purpose.META_STEPS)
    step = jax.jit(partial(optimizer.step, learner))  # traced once, for its shapes and for the loop
    _, shapes = jax.eval_shape(step, pool, state, step_key)
    seen = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

    def body(number: Integer, learner_state: tuple[Any, Info]) -> tuple[Any, Info]:
        state, seen = learner_state
        state, info = step(pool, state, step_key)
        return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), seen, info)

    return jax.lax.fori_loop(0, count, body, (state, seen))


def phase_at(learner: Learner, optimizer: MetaOptimizer, step: int) -> Phase:
    """The part of a run in which a meta-step is."""
    return next(phase for phase in optimizer.phases(learner) if step < phase.end)


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
    # Numbers of the learner may be traced here, which no static argument can be.
    state = inspect.unwrap(begin)(learner, optimizer, pool, key)
    step_key, start = stream(key, Purpose.META_STEPS), 0
    parts = []
    for phase in optimizer.phases(learner):
        step = partial(_step, phase.learner, phase.optimizer, pool, step_key)
        state, seen = jax.lax.scan(step, state, length=phase.end - start)
        start = phase.end
        parts.append(seen)
    return optimizer.theta(state), jax.tree.map(lambda *parts: jnp.concatenate(parts), *parts)


def _step(
    learner: Learner, optimizer: PhaseOptimizer, pool: Any, key: PRNGKey, state: Any, _: None
) -> tuple[Any, Info]:
    return optimizer.step(learner, pool, state, key)
