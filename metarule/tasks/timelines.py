"""Schedules as arrays, and where in its schedule an animal is at each step."""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from metarule.tasks.phenomena import Phenomenon
from metarule.tasks.schedules import parse_trial
from metarule.types import STIMULI

__all__ = ["US", "Now", "Table", "clock", "switched_on", "table"]

US = STIMULI.index("US")


class Table(NamedTuple):
    """All schedules as arrays, padded to the longest: by schedule, phase and place in the block."""

    fewest: np.ndarray
    most: np.ndarray
    block: np.ndarray
    stages: np.ndarray
    wanted: np.ndarray
    after: np.ndarray


@lru_cache(maxsize=16)
def table(phenomena: tuple[Phenomenon, ...]) -> Table:
    """Schedules of phenomena: the animal of phenomenon i is schedule 2i, its control 2i + 1."""
    schedules = [schedule for phenomenon in phenomena for schedule in (phenomenon.animal, phenomenon.control)]
    phases = max(len(schedule.phases) for schedule in schedules)
    places = max(len(phase.trials) for schedule in schedules for phase in schedule.phases)
    shape = (len(schedules), phases)
    made = Table(
        fewest=np.zeros(shape, np.int32),
        most=np.zeros(shape, np.int32),
        block=np.ones(shape, np.int32),
        stages=np.zeros((*shape, places, 2, len(STIMULI)), bool),
        wanted=np.zeros((*shape, places, 3)),
        after=np.zeros((len(schedules), len(STIMULI), 2)),
    )
    for s, schedule in enumerate(schedules):
        for p, phase in enumerate(schedule.phases):
            made.fewest[s, p], made.most[s, p] = phase.times
            made.block[s, p] = len(phase.trials)
            for b, trial in enumerate(phase.trials):
                for stage, names in enumerate(parse_trial(trial)):
                    made.stages[s, p, b, stage, [STIMULI.index(name) for name in names]] = True
                if trial in phase.wanted:
                    made.wanted[s, p, b] = (*phase.wanted[trial], 1.0)
        for name, value in schedule.after.items():
            made.after[s, STIMULI.index(name)] = (value, 1.0)
    return made


class Now(NamedTuple):
    """Where in its schedule an animal is at each step.

    Attributes:
        phase: number of the phase.
        place: of the trial in its block.
        repetition: of the block.
        offset: steps since the trial began.
        over: whether the last phase has ended.
    """

    phase: Int[Array, " steps"]
    place: Int[Array, " steps"]
    repetition: Int[Array, " steps"]
    offset: Int[Array, " steps"]
    over: Bool[Array, " steps"]


def clock(times: Int[Array, " phases"], block: Int[Array, " phases"], length: Int[Array, ""], steps: int) -> Now:
    """Place in a schedule at each step, from the repetitions and trials of its phases and the length of a trial."""
    step = jnp.arange(steps, dtype=jnp.int32)
    ends = jnp.cumsum(times * block, dtype=jnp.int32) * length
    passed = jnp.sum(step[:, None] >= ends[None], axis=1, dtype=jnp.int32)
    phase = jnp.minimum(passed, ends.size - 1)
    since = step - (ends - times * block * length)[phase]
    trial, offset = since // length, since % length
    return Now(phase, trial % block[phase], trial // block[phase], offset, passed >= ends.size)


def switched_on(
    stages: Bool[Array, "steps stages stimuli"], offset: Int[Array, " steps"], delay: Int[Array, ""]
) -> Bool[Array, "steps stimuli"]:
    """Which stimuli are on at each step of a trial: those of the second stage come on a delay later."""
    starts = jnp.stack([jnp.zeros_like(delay), delay])[None, :, None]
    lasts = jnp.where(jnp.arange(stages.shape[-1]) == US, 1, delay + 1)[None, None]
    begun = offset[:, None, None] - starts
    return jnp.any(stages & (begun >= 0) & (begun < lasts), axis=1)
