"""A step in a closed loop: its random keys, what is sensed, and the response to which the task reacts."""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from metarule.protocols import ClosedLoop, TaskFamily
from metarule.types import CircuitStep, Integer, LearnerState, LifetimeContext, Reaction, Stimulus

__all__ = ["keyed_stimulus", "respond", "sense"]


def keyed_stimulus(tasks: TaskFamily, context: LifetimeContext, t: Integer) -> Stimulus:
    """Stimulus at step t, with a key for network and reaction, which the task could not split off its own."""
    key = jax.random.fold_in(context.key, t)
    stimulus = tasks.stimulus(context.task, t, jax.random.fold_in(key, 1))
    return stimulus._replace(key=jax.random.fold_in(key, 0))


def sense(tasks: ClosedLoop, task: Any, state: Any, stimulus: Stimulus) -> Stimulus:
    """Stimulus with what depends on the state of a task, which sees no key of the network and of its own reaction."""
    return tasks.sense(task, state, stimulus._replace(key=None))


def respond(
    lifetime: Any, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
) -> tuple[CircuitStep, Reaction | None, Float[Array, ""] | None]:
    """Compute the response of a network, and in a closed loop the reaction of its task.

    In a closed loop the circuit responds twice from the same random numbers: first for its output, then, with the
    target and the reward of the reaction, for the local variables. Compilers merge what both have in common.

    Args:
        lifetime: the learner.
        context: constants of the lifetime.
        state: state before the step.
        stimulus: stimulus of the step, with a key in a closed loop.

    Returns:
        (response with the local variables that the reaction makes, reaction or None in an open loop, gate of the
        plastic change or None for 1).
    """
    tasks, present = lifetime.tasks, partial(lifetime.present, context, state)
    if not isinstance(tasks, ClosedLoop):
        return present(stimulus), None, stimulus.plasticity
    if stimulus.key is None:
        raise ValueError("stimulus.key: a step in a closed loop needs a key, as `Lifetime.stimulus` gives")
    circuit_key, reaction_key = jax.random.split(stimulus.key)
    stimulus = sense(tasks, context.task, state.task, stimulus)._replace(key=circuit_key)
    output = present(stimulus).output.astype(stimulus.target.dtype)
    reaction = tasks.react(context.task, state.task, output, reaction_key)
    target = output if reaction.target is None else reaction.target
    response = present(stimulus._replace(target=target, reward=reaction.reward))
    return response, reaction, stimulus.plasticity
