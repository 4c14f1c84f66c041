"""Classical conditioning: one lifetime a schedule of stimuli, and the response that is wanted of the motor neuron."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from immutabledict import immutabledict
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.tasks.losses import ActivatedLoss
from metarule.tasks.phenomena import STANDARD, Phenomenon
from metarule.tasks.timelines import US, clock, switched_on, table
from metarule.types import STIMULI, Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["FIELDS", "Conditioning", "ConditioningPool", "ConditioningTask"]

# What schedules of one phenomenon differ in, besides numbers of repetitions.
FIELDS = ("delays", "gaps", "intensities")
# Least and most that a value may be.
_ALLOWED = {"delays": (1, 100), "gaps": (1, 100), "intensities": (0.01, 100.0)}

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
        after: the same for the responses to each of them at the end of the lifetime.
    """

    stimuli: Float[Array, "steps 3"]
    wanted: Float[Array, "steps 3"]
    probes: Float[Array, "3 3"]
    after: Float[Array, "3 3"]


def response_loss(output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
    """Weight · (√(1 + ((response − wanted)/tolerance)²) − 1), with (wanted, tolerance, weight) as target."""
    wanted, tolerance, weight = target
    return weight * (jnp.sqrt(1 + ((output[0] - wanted) / tolerance) ** 2) - 1)


_LOSS = ActivatedLoss(response_loss, "motor")


class Conditioning(
    Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conditioning"
):
    """Phenomena of conditioning: one lifetime a schedule, of an animal or of its control.

    loss = √(1 + ((response − wanted)/tolerance)²) − 1

    The response is the activity of the motor neuron. It counts at the first step of every trial for which one is
    wanted and, at the end of the lifetime, for every stimulus alone. Along the lifetime the loss is a mean over the trials that
    count, in a lifetime as long as the longest schedule; in a longer one it weighs less.

    A CS lasts for the delay and one step more, the US for one step. Held-out schedules share no delay, gap, intensity
    or number of repetitions with those trained on: some values lie between these, others on both sides outside.

    Attributes:
        phenomena: what is lived through.
        report_only: names of phenomena that are not trained on, besides those that say so themselves.
        delays: steps from the first stimuli of a trial to those that follow.
        gaps: steps from the end of a trial to the next; whatever it holds, a trial lasts for twice the delay and one
            step.
        intensities: of a stimulus.
        test_delays: delays that are held out.
        test_gaps: gaps that are held out.
        test_intensities: intensities that are held out.
        emphasis: how often a phenomenon is met where others are met once, by name; of no effect on one that is
            `report_only`.
        tolerance: tolerance of a wanted response r is this times (0.15 + r), in units of the response to the US.

    Raises:
        ValueError: a name that stands twice, no phenomenon that is trained, timings that cannot be, or held-out ones
            that are trained on or of which none lies between those trained on.
    """

    phenomena: Annotated[tuple[Phenomenon, ...], Meta(min_length=1, description="what is lived through")] = STANDARD
    report_only: Annotated[
        tuple[str, ...], Meta(description="phenomena not trained on, besides those that say so themselves")
    ] = ()
    delays: Annotated[
        tuple[int, ...], Meta(min_length=2, description="steps from the first stimuli of a trial to those that follow")
    ] = (2, 4)
    gaps: Annotated[tuple[int, ...], Meta(min_length=2, description="steps from the end of a trial to the next")] = (
        3,
        5,
        7,
    )
    intensities: Annotated[tuple[float, ...], Meta(min_length=2, description="intensities of a stimulus")] = (
        0.85,
        0.95,
        1.05,
        1.15,
    )
    test_delays: Annotated[tuple[int, ...], Meta(min_length=1, description="delays that are held out")] = (1, 3, 5)
    test_gaps: Annotated[tuple[int, ...], Meta(min_length=1, description="gaps that are held out")] = (1, 4, 6, 8)
    test_intensities: Annotated[tuple[float, ...], Meta(min_length=1, description="intensities that are held out")] = (
        0.5,
        0.7,
        0.9,
        1.0,
        1.1,
        1.3,
    )
    emphasis: Annotated[
        Mapping[str, Annotated[int, Meta(ge=1, le=100)]],
        Meta(description="by name, how often a phenomenon is met where others are met once"),
    ] = immutabledict()
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
        allowed = [phenomenon.name for phenomenon in self.phenomena if phenomenon.trained]
        for name in self.emphasis:
            if name not in allowed:
                raise ValueError(f"emphasis: no phenomenon '{name}' is trained on; allowed: {', '.join(allowed)}")
        if not self.trained:
            raise ValueError("phenomena: none is trained, so that there is nothing to learn from")
        for field in FIELDS:
            self._check_values(field)

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
    def primary_metric(self) -> str:
        """How close the responses are to the wanted ones at the end of the lifetime."""
        return "closeness"

    @property
    def min_steps(self) -> int:
        """Steps of the longest schedule."""
        arrays = table(self.phenomena)
        trials = (arrays.most * arrays.block).sum(axis=1).max()
        delay, gap = max(self.delays + self.test_delays), max(self.gaps + self.test_gaps)
        return int(trials) * (2 * delay + 1 + gap)

    def values(self, field: str, side: str) -> tuple:
        """Values of `delays`, `gaps` or `intensities`.

        Args:
            field: which of these.
            side: `trained`, or where held-out values lie from them: `below`, `between` or `above`.

        Returns:
            The values.
        """
        trained, held_out = getattr(self, field), getattr(self, f"test_{field}")
        low, high = min(trained), max(trained)
        return {
            "trained": trained,
            "below": tuple(value for value in held_out if value < low),
            "between": tuple(value for value in held_out if low < value < high),
            "above": tuple(value for value in held_out if value > high),
        }[side]

    def split(self, seed: Integer) -> Split:
        """Part timings and intensities; both pools hold the trained phenomena and their controls.

        Args:
            seed: decides nothing: what is held out is declared.

        Returns:
            Two pools that share no delay, gap, intensity or number of repetitions.
        """
        trained = (self.delays, self.gaps, self.intensities)
        held_out = (self.test_delays, self.test_gaps, self.test_intensities)
        train, test = self.pool(*trained, trained=True), self.pool(*held_out, trained=False)
        return Split(train=train._replace(schedules=self._emphasised()), test=test)

    def pool(
        self, delays: tuple[int, ...], gaps: tuple[int, ...], intensities: tuple[float, ...], trained: bool
    ) -> ConditioningPool:
        """Schedules of the trained phenomena and their controls with some timings and intensities.

        Args:
            delays: steps from the first stimuli of a trial to those that follow.
            gaps: steps from the end of a trial to the next.
            intensities: of a stimulus.
            trained: numbers of repetitions are those of training, or those held out.

        Returns:
            The pool.
        """
        return ConditioningPool(
            schedules=_integers([2 * number + side for number in self.trained for side in range(2)]),
            delays=_integers(delays),
            gaps=_integers(gaps),
            intensities=jnp.array(intensities, float),
            more=_integers(0 if trained else 1),
        )

    def sample(self, key: PRNGKey, pool: ConditioningPool, index: Integer) -> ConditioningTask:
        """Schedule number `index` of a pool.

        Args:
            key: decides timings, intensities and repetitions.
            pool: as from `split`.
            index: any number from 0.

        Returns:
            The task.
        """
        arrays = table(self.phenomena)
        number = pool.schedules[index % pool.schedules.size]
        draws = jax.random.uniform(key, (arrays.most.shape[1] + 5,))
        delay, gap = _choose(pool.delays, draws[0]), _choose(pool.gaps, draws[1])
        intensities = _choose(pool.intensities, draws[2:5])
        most, fewest, block = (jnp.asarray(values)[number] for values in (arrays.most, arrays.fewest, arrays.block))
        first = fewest + pool.more
        choices = ((most - first) // 2 + 1).astype(draws.dtype)
        times = jnp.where(most > 0, first + 2 * jnp.floor(draws[5:] * choices).astype(first.dtype), 0)

        now = clock(times, block, 2 * delay + 1 + gap, self.min_steps)
        stages = jnp.asarray(arrays.stages)[number, now.phase, now.place]
        on = switched_on(stages, now.offset, delay) & ~now.over[:, None]
        begin, end, asked = jnp.moveaxis(jnp.asarray(arrays.wanted, float)[number, now.phase, now.place], -1, 0)
        last = jnp.maximum(times[now.phase] - 1, 1)
        left = jnp.exp(-3.0 * now.repetition.astype(draws.dtype) / last.astype(draws.dtype))
        asked = jnp.where(~now.over & (now.offset == 0), asked, 0.0)
        response, asked_after = jnp.asarray(arrays.after, float)[number].T
        return ConditioningTask(
            stimuli=jnp.where(on, intensities[None], 0.0),
            wanted=self._wanted(end + (begin - end) * left, asked, intensities[US]),
            probes=jnp.diag(intensities),
            after=self._wanted(response, asked_after, intensities[US]),
        )

    def stimulus(self, task: ConditioningTask, t: Integer, key: PRNGKey) -> Stimulus:
        """The stimuli at one step; the last step is one of rest."""
        return Stimulus(
            input=jnp.take(task.stimuli, t, axis=0, mode="clip"),
            target=jnp.take(task.wanted, t, axis=0, mode="clip"),
        )

    def examples(self, task: ConditioningTask) -> Stimulus:
        """Each stimulus alone."""
        return Stimulus(input=task.probes, target=task.after)

    @property
    def loss(self) -> ActivatedLoss:
        """√(1 + ((response − wanted)/tolerance)²) − 1, times how much it counts."""
        return _LOSS

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """How far the wanted responses are missed, in tolerances, and 1/(1 + that), which is 1 where all are met."""
        wanted, tolerance, counts = target.T
        off = jnp.mean(counts * jnp.abs(output[:, 0] - wanted) / tolerance)
        return {"closeness": 1 / (1 + off), "off": off}

    def _emphasised(self) -> Int[Array, " schedules"]:
        """Schedules of the trained phenomena as often as each is met; one after the other, so that shares are even."""
        times = [(number, self.emphasis.get(self.phenomena[number].name, 1)) for number in self.trained]
        rounds = range(max(count for _, count in times))
        return _integers(
            [2 * number + side for turn in rounds for number, count in times for side in range(2) if turn < count]
        )

    def _check_values(self, field: str) -> None:
        """Refuse values that cannot be, and held-out ones that are not held out."""
        least, most = _ALLOWED[field]
        trained, held_out = getattr(self, field), getattr(self, f"test_{field}")
        for name, values in ((field, trained), (f"test_{field}", held_out)):
            for value in values:
                if not least <= value <= most:
                    raise ValueError(f"{name}: {value}; allowed: {least} to {most}")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: a value stands twice")
        if both := set(trained) & set(held_out):
            raise ValueError(f"test_{field}: {min(both)} is trained on; allowed: values that are not in {field}")
        if not self.values(field, "between"):
            raise ValueError(
                f"test_{field}: none is between {min(trained)} and {max(trained)}, the least and the most of {field}; "
                "allowed: at least one that is"
            )

    def _wanted(
        self, response: Float[Array, " n"], counts: Float[Array, " n"], us: Float[Array, ""]
    ) -> Float[Array, "n 3"]:
        """Wanted responses, given in units of the response to the US; all that count have a mean share of 1."""
        share = counts * counts.size / jnp.maximum(jnp.sum(counts), 1.0)
        return jnp.stack([us * response, us * self.tolerance * (_FLOOR + response), share], axis=1)


def _integers(values: Any) -> Int[Array, "*n"]:
    """In one type whatever the precision, so that they can be reckoned with each other."""
    return jnp.asarray(values, jnp.int32)


def _choose(values: Array, draw: Float[Array, "*n"]) -> Array:
    return values[jnp.floor(draw * values.size).astype(int)]
