"""The host loop of meta-training: phases, checkpoints and stops."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from metarule.meta.phases import Phase, phase_at
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.stopping import StopRequest

__all__ = ["Moves", "drive", "state_at"]


class Moves(NamedTuple):
    """Functions that a driver calls.

    Attributes:
        enter: from (phase before, phase with another optimiser, state at the end of the first) to the first state of
            the second.
        advance: from (phase, state, meta-steps taken, meta-steps to take) to (state, observables).
        observe: told (phase, meta-steps taken, state, observables, meta-steps of the call) after each call, and once
            with a call of 0 meta-steps before the first.
    """

    enter: Callable[[Phase, Phase, Any], Any]
    advance: Callable[[Phase, Any, int, int], tuple[Any, Any]]
    observe: Callable[[Phase, int, Any, Any, int], None]


def state_at(plan: Sequence[Phase], start: Any, enter: Callable[[Phase, Phase, Any], Any], step: int) -> Any:
    """A state with the structure of that after a number of meta-steps, for `Checkpoints.restore`.

    Args:
        plan: phases of the run.
        start: state before the first meta-step.
        enter: as in `Moves`.
        step: number of meta-steps.

    Returns:
        The state.
    """
    state = start
    for before, phase in pairwise(plan):
        if step <= before.end:
            break
        if before.optimizer is not phase.optimizer:
            state = enter(before, phase, state)
    return state


def drive(
    plan: Sequence[Phase],
    step: int,
    state: Any,
    moves: Moves,
    checkpoints: Checkpoints,
    stop: StopRequest,
    steps_per_call: int,
    checkpoint_every: int,
    marks: Sequence[int] = (),
) -> Any:
    """Take the meta-steps of a run from a state to the end.

    Args:
        plan: phases of the run.
        step: meta-steps taken.
        state: state after them.
        moves: functions that move and observe the state.
        checkpoints: checkpoints of the run.
        stop: request to stop; the state is saved before it is answered.
        steps_per_call: meta-steps of one call, at most.
        checkpoint_every: meta-steps between checkpoints.
        marks: a call ends at each multiple of these.

    Returns:
        State after the last meta-step.

    Raises:
        Stopped: on request.
    """
    last, phase, is_compiled = plan[-1].end, phase_at(tuple(plan), max(step - 1, 0)), False
    while step < last:
        if stop.requested:
            checkpoints.save(step, state)
            stop.answer(step)
        before, phase = phase, phase_at(tuple(plan), step)
        if before.optimizer is not phase.optimizer:
            state = moves.enter(before, phase, state)
        if not is_compiled:
            state, infos = moves.advance(phase, state, step, 0)
            moves.observe(phase, step, state, infos, 0)
            is_compiled = True
        until_mark = (every - step % every for every in (checkpoint_every, *marks))
        count = min(steps_per_call, phase.end - step, *until_mark)
        state, infos = moves.advance(phase, state, step, count)
        step += count
        moves.observe(phase, step, state, infos, count)
        if step % checkpoint_every == 0 or step == last:
            checkpoints.save(step, state)
    return state
