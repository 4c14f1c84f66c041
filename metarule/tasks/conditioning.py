"""Classical conditioning: one life a schedule of stimuli, and the response that is wanted of the motor neuron."""

from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from msgspec import Meta

from metarule.schema import Checked
from metarule.tasks.phenomena import STANDARD, Phenomenon
from metarule.tasks.schedules import parse_trial
from metarule.types import STIMULI, Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["Conditioning", "ConditioningPool", "ConditioningTask"]

_US = STIMULI.index("US")

# Small wanted responses may be off by less than large ones: tolerances are as wide as this + the wanted response.
_FLOOR = 0.15


class ConditioningPool(NamedTuple):
    """Schedules, and the timings and intensities with which they are met.

    Attributes:
        schedules: numbers of schedules; the animal of phenomenon i is 2i, its control 2i + 1.
        delays: steps from the first stimuli of a trial to those that follow.
        gaps: steps from the end of a trial to the next.
        intensities: of a stimulus.
        more: repetitions beyond the fewest are even in number where this is 0, and odd where it is 1.
    """

    schedules: Int[Array, " schedules"]
    delays: Int[Array, " delays"]
    gaps: Int[Array, " gaps"]
    intensities: Float[Array, " intensities"]
    more: Int[Array, ""]


class ConditioningTask(NamedTuple):
    """What one animal lives through.

    Attributes:
        stimuli: intensity of CS1, CS2 and US at each step.
        wanted: at each step, the wanted response, by how much it may be off, and how much it counts.
        probes: each stimulus alone, one a row.
        after: the same for the responses to each of them at the end of the life.
    """

    stimuli: Float[Array, "steps 3"]
    wanted: Float[Array, "steps 3"]
    probes: Float[Array, "3 3"]
    after: Float[Array, "3 3"]


class Conditioning(
    Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conditioning"
):
    """Phenomena of conditioning: one life a schedule, of an animal or of its control.

    loss = √(1 + ((response − wanted)/tolerance)²) − 1

    The response is the activity of the motor neuron. It counts at the first step of every trial for which one is
    wanted and, at the end of the life, for every stimulus alone. Along the life the loss is a mean over the trials that
    count, in a life as long as the longest schedule; in a longer one it weighs less.

    A CS lasts for the delay and one step more, the US for one step. Test schedules have other delays, gaps,
    intensities and numbers of repetitions than any training schedule: of the values in order, every second one is
    kept for them, so that they lie between those trained on.

    Attributes:
        phenomena: what is lived through.
        report_only: names of phenomena that are not trained on, besides those that say so themselves.
        delays: steps from the first stimuli of a trial to those that follow.
        gaps: steps from the end of a trial to the next; whatever it holds, a trial lasts for twice the delay and one
            step.
        intensities: of a stimulus.
        tolerance: tolerance of a wanted response r is this times (0.15 + r), in units of the response to the US.

    Raises:
        ValueError: a name that stands twice, no phenomenon that is trained, or timings that cannot be.
    """

    phenomena: Annotated[tuple[Phenomenon, ...], Meta(min_length=1, description="what is lived through")] = STANDARD
    report_only: Annotated[
        tuple[str, ...], Meta(description="phenomena not trained on, besides those that say so themselves")
    ] = ()
    delays: Annotated[
        tuple[int, ...], Meta(min_length=2, description="steps from the first stimuli of a trial to those that follow")
    ] = (2, 3, 4)
    gaps: Annotated[tuple[int, ...], Meta(min_length=2, description="steps from the end of a trial to the next")] = (
        3,
        4,
        5,
        6,
        7,
    )
    intensities: Annotated[tuple[float, ...], Meta(min_length=2, description="intensities of a stimulus")] = (
        0.85,
        0.9,
        0.95,
        1.0,
        1.05,
        1.1,
        1.15,
    )
    tolerance: Annotated[
        float, Meta(gt=0, description="a response may be off its wanted r by this times (0.15 + r)")
    ] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [phenomenon.name for phenomenon in self.phenomena]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"phenomena: '{twice}' stands twice")
        for name in self.report_only:
            if name not in names:
                raise ValueError(f"report_only: there is no phenomenon '{name}'; allowed: {', '.join(names)}")
        if not self.trained:
            raise ValueError("phenomena: none is trained, so that there is nothing to learn from")
        for field, least, most in (("delays", 1, 100), ("gaps", 1, 100), ("intensities", 0.01, 100.0)):
            for value in getattr(self, field):
                if not least <= value <= most:
                    raise ValueError(f"{field}: {value}; allowed: {least} to {most}")
            if len(set(getattr(self, field))) < len(getattr(self, field)):
                raise ValueError(f"{field}: a value stands twice")

    @property
    def trained(self) -> tuple[int, ...]:
        """Numbers of the phenomena that meta-training meets."""
        return tuple(
            number
            for number, phenomenon in enumerate(self.phenomena)
            if phenomenon.trained and phenomenon.name not in self.report_only
        )

    @property
    def inputs(self) -> int:
        """One sensory neuron a stimulus."""
        return len(STIMULI)

    @property
    def outputs(self) -> int:
        """One motor neuron."""
        return 1

    @property
    def shot(self) -> int:
        """Presentations are not in rounds."""
        return 0

    @property
    def link(self) -> str:
        """The loss is made for the response of a motor neuron."""
        return "motor"

    @property
    def score(self) -> str:
        """How close the responses are to the wanted ones at the end of the life."""
        return "closeness"

    @property
    def needs(self) -> int:
        """Steps of the longest schedule."""
        trials = (_table(self.phenomena).most * _table(self.phenomena).block).sum(axis=1).max()
        return int(trials) * (2 * max(self.delays) + 1 + max(self.gaps))

    def split(self, seed: Integer) -> Split:
        """Part timings and intensities; both pools hold the trained phenomena and their controls.

        Args:
            seed: decides nothing: what is held out lies between what is trained on, whatever the seed.

        Returns:
            Two pools that share no delay, gap, intensity or number of repetitions.
        """
        schedules = _integers([2 * number + side for number in self.trained for side in range(2)])

        def pool(side: int) -> ConditioningPool:
            delays, gaps, intensities = (
                sorted(values)[side::2] for values in (self.delays, self.gaps, self.intensities)
            )
            return ConditioningPool(
                schedules=schedules,
                delays=_integers(delays),
                gaps=_integers(gaps),
                intensities=jnp.array(intensities),
                more=_integers(side),
            )

        return Split(train=pool(0), test=pool(1))

    def sample(self, key: PRNGKey, pool: ConditioningPool, index: Integer) -> ConditioningTask:
        """Schedule number `index` of a pool.

        Args:
            key: decides timings, intensities and repetitions.
            pool: as from `split`.
            index: any number from 0.

        Returns:
            The task.
        """
        table = _table(self.phenomena)
        number = pool.schedules[index % pool.schedules.size]
        draws = jax.random.uniform(key, (table.most.shape[1] + 5,))
        delay, gap = _choose(pool.delays, draws[0]), _choose(pool.gaps, draws[1])
        intensities = _choose(pool.intensities, draws[2:5])
        most, fewest, block = (jnp.asarray(values)[number] for values in (table.most, table.fewest, table.block))
        first = fewest + pool.more
        choices = ((most - first) // 2 + 1).astype(draws.dtype)
        times = jnp.where(most > 0, first + 2 * jnp.floor(draws[5:] * choices).astype(first.dtype), 0)

        now = _clock(times, block, 2 * delay + 1 + gap, self.needs)
        stages = jnp.asarray(table.stages)[number, now.phase, now.place]
        on = _on(stages, now.offset, delay) & ~now.over[:, None]
        begin, end, asked = jnp.moveaxis(jnp.asarray(table.wanted, float)[number, now.phase, now.place], -1, 0)
        last = jnp.maximum(times[now.phase] - 1, 1)
        left = jnp.exp(-3.0 * now.repetition.astype(draws.dtype) / last.astype(draws.dtype))
        asked = jnp.where(~now.over & (now.offset == 0), asked, 0.0)
        response, asked_after = jnp.asarray(table.after, float)[number].T
        return ConditioningTask(
            stimuli=jnp.where(on, intensities[None], 0.0),
            wanted=self._wanted(end + (begin - end) * left, asked, intensities[_US]),
            probes=jnp.diag(intensities),
            after=self._wanted(response, asked_after, intensities[_US]),
        )

    def identity(self, pool: Any, index: Integer) -> Integer:
        """Each task draws its own timings and intensities."""
        return index

    def stimulus(self, task: ConditioningTask, time: Integer, key: PRNGKey) -> Stimulus:
        """The stimuli at one step; the last step is one of rest."""
        return Stimulus(
            input=jnp.take(task.stimuli, time, axis=0, mode="clip"),
            target=jnp.take(task.wanted, time, axis=0, mode="clip"),
        )

    def examples(self, task: ConditioningTask) -> Stimulus:
        """Each stimulus alone."""
        return Stimulus(input=task.probes, target=task.after)

    def loss(self, output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
        """√(1 + ((response − wanted)/tolerance)²) − 1, times how much it counts."""
        wanted, tolerance, counts = target
        return counts * (jnp.sqrt(1 + ((output[0] - wanted) / tolerance) ** 2) - 1)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """How far the wanted responses are missed, in tolerances, and 1/(1 + that), which is 1 where all are met."""
        wanted, tolerance, counts = target.T
        off = jnp.mean(counts * jnp.abs(output[:, 0] - wanted) / tolerance)
        return {"closeness": 1 / (1 + off), "off": off}

    def _wanted(
        self, response: Float[Array, " n"], counts: Float[Array, " n"], us: Float[Array, ""]
    ) -> Float[Array, "n 3"]:
        """Wanted responses, given in units of the response to the US; all that count have a mean share of 1."""
        share = counts * counts.size / jnp.maximum(jnp.sum(counts), 1.0)
        return jnp.stack([us * response, us * self.tolerance * (_FLOOR + response), share], axis=1)


class _Table(NamedTuple):
    """All schedules as arrays, padded to the longest: by schedule, phase and place in the block."""

    fewest: np.ndarray
    most: np.ndarray
    block: np.ndarray
    stages: np.ndarray
    wanted: np.ndarray
    after: np.ndarray


@lru_cache(maxsize=16)
def _table(phenomena: tuple[Phenomenon, ...]) -> _Table:
    schedules = [schedule for phenomenon in phenomena for schedule in (phenomenon.animal, phenomenon.control)]
    phases = max(len(schedule.phases) for schedule in schedules)
    places = max(len(phase.trials) for schedule in schedules for phase in schedule.phases)
    shape = (len(schedules), phases)
    table = _Table(
        fewest=np.zeros(shape, np.int32),
        most=np.zeros(shape, np.int32),
        block=np.ones(shape, np.int32),
        stages=np.zeros((*shape, places, 2, len(STIMULI)), bool),
        wanted=np.zeros((*shape, places, 3)),
        after=np.zeros((len(schedules), len(STIMULI), 2)),
    )
    for s, schedule in enumerate(schedules):
        for p, phase in enumerate(schedule.phases):
            table.fewest[s, p], table.most[s, p] = phase.times
            table.block[s, p] = len(phase.trials)
            for b, trial in enumerate(phase.trials):
                for stage, names in enumerate(parse_trial(trial)):
                    table.stages[s, p, b, stage, [STIMULI.index(name) for name in names]] = True
                if trial in phase.wanted:
                    table.wanted[s, p, b] = (*phase.wanted[trial], 1.0)
        for name, value in schedule.after.items():
            table.after[s, STIMULI.index(name)] = (value, 1.0)
    return table


class _Now(NamedTuple):
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


def _clock(times: Int[Array, " phases"], block: Int[Array, " phases"], length: Int[Array, ""], steps: int) -> _Now:
    step = jnp.arange(steps, dtype=jnp.int32)
    ends = jnp.cumsum(times * block, dtype=jnp.int32) * length
    passed = jnp.sum(step[:, None] >= ends[None], axis=1, dtype=jnp.int32)
    phase = jnp.minimum(passed, ends.size - 1)
    since = step - (ends - times * block * length)[phase]
    trial, offset = since // length, since % length
    return _Now(phase, trial % block[phase], trial // block[phase], offset, passed >= ends.size)


def _on(
    stages: Bool[Array, "steps stages stimuli"], offset: Int[Array, " steps"], delay: Int[Array, ""]
) -> Bool[Array, "steps stimuli"]:
    """Which stimuli are on at each step of a trial: those of the second stage come on a delay later."""
    starts = jnp.stack([jnp.zeros_like(delay), delay])[None, :, None]
    lasts = jnp.where(jnp.arange(stages.shape[-1]) == _US, 1, delay + 1)[None, None]
    begun = offset[:, None, None] - starts
    return jnp.any(stages & (begun >= 0) & (begun < lasts), axis=1)


def _integers(values: Any) -> Int[Array, "*n"]:
    """In one type whatever the precision, so that they can be reckoned with each other."""
    return jnp.asarray(values, jnp.int32)


def _choose(values: Array, draw: Float[Array, "*n"]) -> Array:
    return values[jnp.floor(draw * values.size).astype(int)]
