"""Schedules as arrays, and the position in a schedule at each step."""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from metarule.tasks.phenomena import Phenomenon
from metarule.tasks.schedules import parse_trial
from metarule.types import STIMULI

__all__ = ["US", "ScheduleArrays", "active_stimuli", "schedule_arrays", "schedule_positions"]

US = STIMULI.index("US")


class ScheduleArrays(NamedTuple):
    """Schedules as arrays, padded to the longest.

    Attributes:
        fewest: fewest repetitions [schedules, phases].
        most: most repetitions, 0 for padding [schedules, phases].
        block: trials in a block [schedules, phases].
        stages: stimuli of the two stages of each trial [schedules, phases, trials, 2, stimuli].
        targets: target response at the start of the phase, at its end, and 1 if there is one
            [schedules, phases, trials, 3].
        final_targets: target response to each stimulus at the end of the lifetime, and 1 if there is one
            [schedules, stimuli, 2].
    """

    fewest: np.ndarray
    most: np.ndarray
    block: np.ndarray
    stages: np.ndarray
    targets: np.ndarray
    final_targets: np.ndarray


@lru_cache(maxsize=16)
def schedule_arrays(phenomena: tuple[Phenomenon, ...]) -> ScheduleArrays:
    """Convert the schedules of phenomena: the animal of phenomenon i is schedule 2i, its control is 2i + 1."""
    schedules = [schedule for phenomenon in phenomena for schedule in (phenomenon.animal, phenomenon.control)]
    phases = max(len(schedule.phases) for schedule in schedules)
    trials = max(len(phase.trials) for schedule in schedules for phase in schedule.phases)
    shape = (len(schedules), phases)
    arrays = ScheduleArrays(
        fewest=np.zeros(shape, np.int32),
        most=np.zeros(shape, np.int32),
        block=np.ones(shape, np.int32),
        stages=np.zeros((*shape, trials, 2, len(STIMULI)), bool),
        targets=np.zeros((*shape, trials, 3)),
        final_targets=np.zeros((len(schedules), len(STIMULI), 2)),
    )
    for s, schedule in enumerate(schedules):
        for p, phase in enumerate(schedule.phases):
            arrays.fewest[s, p], arrays.most[s, p] = phase.repetitions
            arrays.block[s, p] = len(phase.trials)
            for b, trial in enumerate(phase.trials):
                for stage, names in enumerate(parse_trial(trial)):
                    arrays.stages[s, p, b, stage, [STIMULI.index(name) for name in names]] = True
                if trial in phase.targets:
                    arrays.targets[s, p, b] = (*phase.targets[trial], 1.0)
        for name, value in schedule.final_targets.items():
            arrays.final_targets[s, STIMULI.index(name)] = (value, 1.0)
    return arrays


def schedule_positions(
    repetitions: Int[Array, " phases"], block: Int[Array, " phases"], length: Int[Array, ""], steps: int
) -> tuple[Array, ...]:
    """Find the position in a schedule at each step.

    Args:
        repetitions: number of repetitions of the block of each phase.
        block: number of trials in a block of each phase.
        length: steps of a trial.
        steps: number of steps.

    Returns:
        Numbers of the phase, of the trial in its block and of the repetition of the block; steps since the start of the
        trial; and true from the end of the last phase on.
    """
    step = jnp.arange(steps, dtype=jnp.int32)
    ends = jnp.cumsum(repetitions * block, dtype=jnp.int32) * length
    passed = jnp.sum(step[:, None] >= ends[None], axis=1, dtype=jnp.int32)
    phase = jnp.minimum(passed, ends.size - 1)
    since = step - (ends - repetitions * block * length)[phase]
    trial, offset = since // length, since % length
    return phase, trial % block[phase], trial // block[phase], offset, passed >= ends.size


def active_stimuli(
    stages: Bool[Array, "steps stages stimuli"], offset: Int[Array, " steps"], delay: Int[Array, ""]
) -> Bool[Array, "steps stimuli"]:
    """Stimuli that are on at each step of a trial; those of the second stage start after the delay."""
    starts = jnp.stack([jnp.zeros_like(delay), delay])[None, :, None]
    durations = jnp.where(jnp.arange(stages.shape[-1]) == US, 1, delay + 1)[None, None]
    elapsed = offset[:, None, None] - starts
    return jnp.any(stages & (elapsed >= 0) & (elapsed < durations), axis=1)
