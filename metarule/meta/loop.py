"""Meta-training as pure functions, without any access to disk."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metarule.meta.phases import Phase, list_phases
from metarule.parallel.devices import sharded_jit
from metarule.prng import Purpose, stream
from metarule.protocols import Learner
from metarule.types import Info, Integer, PRNGKey, Theta

__all__ = ["advance", "begin", "enter", "phase_key", "start_phase", "train"]


def phase_key(phase: Phase, key: PRNGKey, purpose: Purpose = Purpose.META_STEPS) -> PRNGKey:
    """Key of a phase for one purpose, from the key of the run."""
    key = stream(key, purpose)
    return jax.random.fold_in(key, phase.begin) if phase.begin else key


def start_phase(phase: Phase, pool: Any, theta: Theta, key: PRNGKey) -> Any:
    """State of the optimiser of a phase before its first meta-step, from the initial θ and the key of the run.

    Each array has its own memory, because `advance` takes it over.
    """
    state = phase.optimizer.init(phase.learner, pool, theta, phase_key(phase, key, Purpose.OPTIMIZER))
    return jax.tree.map(jnp.copy, state)


@sharded_jit("learner", "optimizer")
def begin(learner: Learner, optimizer: Any, pool: Any, key: PRNGKey, theta: Theta | None = None) -> Any:
    """State of a run before its first meta-step, that of the first optimiser, from a given or initial θ."""
    theta = learner.init_theta(stream(key, Purpose.THETA)) if theta is None else theta
    return start_phase(list_phases(optimizer, learner)[0], pool, theta, key)


@sharded_jit("before", "phase")
def enter(before: Phase, phase: Phase, pool: Any, state: Any, key: PRNGKey) -> Any:
    """First state of a phase with another optimiser, from the last state of the phase before it."""
    return start_phase(phase, pool, before.optimizer.theta(state), key)


@sharded_jit("phase", "capacity", donated="state")
def advance(phase: Phase, pool: Any, state: Any, key: PRNGKey, count: Integer, capacity: int) -> tuple[Any, Info]:
    """Take some meta-steps in one call. Their number is data, so that one program serves every call.

    Args:
        phase: the phase.
        pool: training tasks.
        state: state before them, whose memory is taken over.
        key: key of the run.
        count: number of meta-steps, at most `capacity`.
        capacity: length of the observables.

    Returns:
        State after them, and the observables [capacity, …], of which the first `count` are filled.
    """
    step = jax.jit(partial(phase.optimizer.step, phase.learner))  # traced once, for its shapes and for the loop
    step_key = phase_key(phase, key)
    _, shapes = jax.eval_shape(step, pool, state, step_key)
    infos = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)

    def body(number: Integer, carry: tuple[Any, Info]) -> tuple[Any, Info]:
        state, infos = carry
        state, info = step(pool, state, step_key)
        return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), infos, info)

    return jax.lax.fori_loop(0, count, body, (state, infos))


def train(learner: Learner, optimizer: Any, pool: Any, key: PRNGKey) -> tuple[Theta, Info]:
    """Meta-train as one pure function; `vmap` it over keys for many seeds.

    Args:
        learner: the learner.
        optimizer: the optimiser.
        pool: training tasks.
        key: key of the run.

    Returns:
        (learned θ, observables of each meta-step [steps, …]); an observable that a phase does not have is NaN there.
    """

    def take_steps(phase: Phase, state: Any, count: int) -> tuple[Any, Info]:
        step_key = phase_key(phase, key)

        def step(state: Any, _: None) -> tuple[Any, Info]:
            return phase.optimizer.step(phase.learner, pool, state, step_key)

        return jax.lax.scan(step, state, length=count)

    theta, start, infos = learner.init_theta(stream(key, Purpose.THETA)), 0, []
    optimizer_before = None
    for phase in list_phases(optimizer, learner):
        if optimizer_before is not phase.optimizer:
            state = start_phase(phase, pool, theta, key)
        state, info = take_steps(phase, state, phase.end - start)
        theta, start, optimizer_before = phase.optimizer.theta(state), phase.end, phase.optimizer
        infos.append(info)
    names = dict.fromkeys(name for info in infos for name in info.observed)
    filled = [
        info._replace(observed={name: info.observed.get(name, jnp.full_like(info.loss, jnp.nan)) for name in names})
        for info in infos
    ]
    return theta, jax.tree.map(lambda *parts: jnp.concatenate(parts), *filled)
