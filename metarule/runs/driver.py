"""The host loop of meta-training: phases, checkpoints and stops."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from metarule.meta.phases import Phase, phase_at
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.experiment import Run
from metarule.runs.stopping import StopRequest

__all__ = ["drive", "restore"]

Enter: TypeAlias = Callable[[Phase, Phase, Any], Any]
Advance: TypeAlias = Callable[[Phase, Any, int, int], tuple[Any, Any]]


def restore(checkpoints: Checkpoints, plan: Sequence[Phase], initial: Any, enter: Enter) -> tuple[int, Any]:
    """Restore (meta-steps taken, state after them) from the last checkpoint that is not damaged.

    Args:
        checkpoints: checkpoints of the run.
        plan: phases of the run.
        initial: state before the first meta-step.
        enter: as in `drive`.
    """

    def state_like(step: int) -> Any:
        state = initial
        for before, phase in pairwise(plan):
            if before.end < step and before.optimizer is not phase.optimizer:
                state = enter(before, phase, state)
        return state

    return checkpoints.restore(state_like)


def drive(
    plan: Sequence[Phase],
    step: int,
    state: Any,
    enter: Enter,
    advance: Advance,
    checkpoints: Checkpoints,
    stop: StopRequest,
    run: Run,
    marks: Sequence[int] = (),
) -> Iterator[tuple[Phase, int, Any, Any, int]]:
    """Take the meta-steps of a run from a state to the end.

    Args:
        plan: phases of the run.
        step: meta-steps taken.
        state: state after them.
        enter: from (phase, next phase with another optimiser, last state of the first) to the first state of the next.
        advance: from (phase, state, meta-steps taken, meta-steps to take) to (state, observables).
        checkpoints: checkpoints of the run.
        stop: request to stop; the state is saved before it is answered.
        run: meta-steps of one call, at most, and between checkpoints.
        marks: a call ends at each multiple of these.

    Yields:
        (phase, meta-steps taken, state, observables, meta-steps of the call) after each call. The first call takes 0
        meta-steps; it compiles the program. A checkpoint is saved after the caller has handled a call.

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
            state = enter(before, phase, state)
        if not is_compiled:
            state, infos = advance(phase, state, step, 0)
            yield phase, step, state, infos, 0
            is_compiled = True
        until_mark = (every - step % every for every in (run.checkpoint_every, *marks))
        count = min(run.steps_per_call, phase.end - step, *until_mark)
        state, infos = advance(phase, state, step, count)
        step += count
        yield phase, step, state, infos, count
        if step % run.checkpoint_every == 0 or step == last:
            checkpoints.save(step, state)
