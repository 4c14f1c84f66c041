"""Classical conditioning: schedules of stimuli, with target responses of the motor neuron."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from immutabledict import immutabledict
from jaxtyping import Array, Float, Int
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.tasks.losses import ActivatedLoss
from metarule.tasks.phenomena import STANDARD, Phenomenon
from metarule.tasks.timelines import US, active_stimuli, schedule_arrays, schedule_positions
from metarule.types import STIMULI, Integer, Metrics, PRNGKey, Split, Stimulus

__all__ = ["FIELDS", "Conditioning", "ConditioningPool", "ConditioningTask"]

# Values that schedules of one phenomenon differ in, besides repetitions.
FIELDS = ("delays", "gaps", "intensities")
# Allowed range of each value.
_ALLOWED = {"delays": (1, 100), "gaps": (1, 100), "intensities": (0.01, 100.0)}

# Tolerances are proportional to this + the target response: large responses may deviate more than small ones.
_TOLERANCE_OFFSET = 0.15


class ConditioningPool(NamedTuple):
    """Schedules, with the timings and intensities that they draw from.

    Attributes:
        schedules: numbers of schedules; the animal of phenomenon i is 2i, its control 2i + 1.
        delays: steps from the first stimuli of a trial to the following ones.
        gaps: steps from the end of a trial to the next.
        intensities: of a stimulus.
        parity: 0 if repetitions beyond the fewest are even in number, 1 if they are odd.
    """

    schedules: Int[Array, " schedules"]
    delays: Int[Array, " delays"]
    gaps: Int[Array, " gaps"]
    intensities: Float[Array, " intensities"]
    parity: Int[Array, ""]


class ConditioningTask(NamedTuple):
    """Stimuli and targets of one lifetime.

    Attributes:
        stimuli: intensity of CS1, CS2 and US at each step.
        targets: target response, tolerance and weight in the loss at each step.
        probes: each stimulus alone, one a row.
        final_targets: the same for the response to each probe at the end of the lifetime.
    """

    stimuli: Float[Array, "steps 3"]
    targets: Float[Array, "steps 3"]
    probes: Float[Array, "3 3"]
    final_targets: Float[Array, "3 3"]


def response_loss(output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
    """Weight · (√(1 + ((output − response)/tolerance)²) − 1), with (response, tolerance, weight) as target."""
    response, tolerance, weight = target
    return weight * (jnp.sqrt(1 + ((output[0] - response) / tolerance) ** 2) - 1)


class Conditioning(
    Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conditioning"
):
    """Phenomena of conditioning; each lifetime is the schedule of an animal or of its control.

    loss = √(1 + ((response − target)/tolerance)²) − 1

    The response is the activity of the motor neuron. Targets apply to the first step of a trial and, at the end of the
    lifetime, to each stimulus alone. The loss along a lifetime is a mean over the trials with a target if the lifetime
    has the length of the longest schedule; in a longer lifetime it has a smaller weight.

    A CS lasts for the delay and one more step, the US for one step. Held-out schedules share no delay, gap, intensity
    or number of repetitions with trained ones. Some held-out values lie between trained ones, others on both sides of
    them.

    Attributes:
        phenomena: the phenomena, each with the schedules of an animal and of its control.
        report_only: names of phenomena that are not trained, besides those with `trained = false`.
        delays: steps from the first stimuli of a trial to the following ones.
        gaps: steps from the end of a trial to the next; every trial lasts for twice the delay and one step.
        intensities: intensities of a stimulus.
        test_delays: held-out delays.
        test_gaps: held-out gaps.
        test_intensities: held-out intensities.
        emphasis: sampling frequency of a phenomenon relative to the others (1), by name; it has no effect on those in
            `report_only`.
        tolerance: tolerance of a target response r is this times (0.15 + r), in units of the response to the US.

    Raises:
        ValueError: a repeated name, no trained phenomenon, timings outside their range, or held-out values that are
            trained or none of which lies between trained ones.
    """

    phenomena: Annotated[tuple[Phenomenon, ...], Meta(min_length=1)] = STANDARD
    report_only: tuple[str, ...] = ()
    delays: Annotated[tuple[int, ...], Meta(min_length=2)] = (2, 4)
    gaps: Annotated[tuple[int, ...], Meta(min_length=2)] = (3, 5, 7)
    intensities: Annotated[tuple[float, ...], Meta(min_length=2)] = (0.85, 0.95, 1.05, 1.15)
    test_delays: Annotated[tuple[int, ...], Meta(min_length=1)] = (1, 3, 5)
    test_gaps: Annotated[tuple[int, ...], Meta(min_length=1)] = (1, 4, 6, 8)
    test_intensities: Annotated[tuple[float, ...], Meta(min_length=1)] = (0.5, 0.7, 0.9, 1.0, 1.1, 1.3)
    emphasis: Mapping[str, Annotated[int, Meta(ge=1, le=100)]] = immutabledict()
    tolerance: Annotated[float, Meta(gt=0)] = 0.1
    inputs: ClassVar[int] = len(STIMULI)
    outputs: ClassVar[int] = 1
    loss: ClassVar[ActivatedLoss] = ActivatedLoss(response_loss, "motor")
    primary_metric: ClassVar[str] = "closeness"

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [phenomenon.name for phenomenon in self.phenomena]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"phenomena: '{repeated}' is given twice")
        for name in self.report_only:
            if name not in names:
                raise ValueError(f"report_only: '{name}' is not a phenomenon; allowed: {', '.join(names)}")
        allowed = [phenomenon.name for phenomenon in self.phenomena if phenomenon.trained]
        for name in self.emphasis:
            if name not in allowed:
                raise ValueError(f"emphasis: '{name}' is not a trained phenomenon; allowed: {', '.join(allowed)}")
        if not self.trained:
            raise ValueError("phenomena: none is trained; allowed: at least one")
        for field in FIELDS:
            self._check_values(field)

    @property
    def trained(self) -> tuple[int, ...]:
        """Numbers of the trained phenomena."""
        return tuple(
            number
            for number, phenomenon in enumerate(self.phenomena)
            if phenomenon.trained and phenomenon.name not in self.report_only
        )

    @property
    def min_steps(self) -> int:
        """Steps of the longest schedule."""
        arrays = schedule_arrays(self.phenomena)
        trials = (arrays.most * arrays.block).sum(axis=1).max()
        delay, gap = max(self.delays + self.test_delays), max(self.gaps + self.test_gaps)
        return int(trials) * (2 * delay + 1 + gap)

    def values(self, field: str, side: str) -> tuple:
        """Values of `delays`, `gaps` or `intensities`.

        Args:
            field: name of one of these.
            side: `trained`, or the position of held-out values relative to these: `below`, `between` or `above`.
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
        """Make two pools that share no delay, gap, intensity or number of repetitions.

        Both have the trained phenomena and their controls. The seed is unused, because the config declares the split.
        """
        trained = (self.delays, self.gaps, self.intensities)
        held_out = (self.test_delays, self.test_gaps, self.test_intensities)
        train, test = self.pool(*trained, trained=True), self.pool(*held_out, trained=False)
        return Split(train=train._replace(schedules=self._emphasised()), test=test)

    def pool(
        self, delays: tuple[int, ...], gaps: tuple[int, ...], intensities: tuple[float, ...], trained: bool
    ) -> ConditioningPool:
        """Make a pool of the trained phenomena and their controls with given timings and intensities.

        Args:
            delays: steps from the first stimuli of a trial to the following ones.
            gaps: steps from the end of a trial to the next.
            intensities: of a stimulus.
            trained: whether numbers of repetitions are trained or held-out ones.
        """
        return ConditioningPool(
            schedules=_integers([2 * number + side for number in self.trained for side in range(2)]),
            delays=_integers(delays),
            gaps=_integers(gaps),
            intensities=jnp.array(intensities, float),
            parity=_integers(0 if trained else 1),
        )

    def sample(self, key: PRNGKey, pool: ConditioningPool, index: Integer) -> ConditioningTask:
        """Sample schedule number `index` of a pool; the key decides timings, intensities and repetitions."""
        arrays = schedule_arrays(self.phenomena)
        number = pool.schedules[index % pool.schedules.size]
        draws = jax.random.uniform(key, (arrays.most.shape[1] + 5,))
        delay, gap = _choose(pool.delays, draws[0]), _choose(pool.gaps, draws[1])
        intensities = _choose(pool.intensities, draws[2:5])
        most, fewest, block = (jnp.asarray(values)[number] for values in (arrays.most, arrays.fewest, arrays.block))
        first = fewest + pool.parity
        choices = ((most - first) // 2 + 1).astype(draws.dtype)
        repetitions = jnp.where(most > 0, first + 2 * jnp.floor(draws[5:] * choices).astype(first.dtype), 0)

        length = 2 * delay + 1 + gap
        phase, trial, repetition, offset, over = schedule_positions(repetitions, block, length, self.min_steps)
        on = active_stimuli(jnp.asarray(arrays.stages)[number, phase, trial], offset, delay) & ~over[:, None]
        begin, end, has_target = jnp.moveaxis(jnp.asarray(arrays.targets, float)[number, phase, trial], -1, 0)
        last = jnp.maximum(repetitions[phase] - 1, 1)
        decay = jnp.exp(-3.0 * repetition.astype(draws.dtype) / last.astype(draws.dtype))
        counts = jnp.where(~over & (offset == 0), has_target, 0.0)
        response, final_counts = jnp.asarray(arrays.final_targets, float)[number].T
        return ConditioningTask(
            stimuli=jnp.where(on, intensities[None], 0.0),
            targets=self._targets(end + (begin - end) * decay, counts, intensities[US]),
            probes=jnp.diag(intensities),
            final_targets=self._targets(response, final_counts, intensities[US]),
        )

    def stimulus(self, task: ConditioningTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimuli of step t; beyond the last step it is repeated, which is one of rest."""
        stimulus, target = (jnp.take(values, t, axis=0, mode="clip") for values in (task.stimuli, task.targets))
        return Stimulus(stimulus, target)

    def examples(self, task: ConditioningTask) -> Stimulus:
        """Each stimulus alone."""
        return Stimulus(input=task.probes, target=task.final_targets)

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """Mean deviation from the target responses, in tolerances, and closeness = 1/(1 + deviation)."""
        response, tolerance, counts = target.T
        deviation = jnp.mean(counts * jnp.abs(output[:, 0] - response) / tolerance)
        return {"closeness": 1 / (1 + deviation), "deviation": deviation}

    def _emphasised(self) -> Int[Array, " schedules"]:
        """Schedules of the trained phenomena by emphasis, interleaved so that shares are even over the pool."""
        counts = [(number, self.emphasis.get(self.phenomena[number].name, 1)) for number in self.trained]
        rounds = range(max(count for _, count in counts))
        return _integers(
            [2 * number + side for turn in rounds for number, count in counts for side in range(2) if turn < count]
        )

    def _check_values(self, field: str) -> None:
        least, most = _ALLOWED[field]
        trained, held_out = getattr(self, field), getattr(self, f"test_{field}")
        for name, values in ((field, trained), (f"test_{field}", held_out)):
            for value in values:
                if not least <= value <= most:
                    raise ValueError(f"{name}: {value}; allowed: {least} to {most}")
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: a value is given twice")
        if common := set(trained) & set(held_out):
            raise ValueError(f"test_{field}: {min(common)} is trained; allowed: values that are not in {field}")
        if not self.values(field, "between"):
            raise ValueError(
                f"test_{field}: no value is between {min(trained)} and {max(trained)}, the range of {field}; "
                "allowed: at least one"
            )

    def _targets(
        self, response: Float[Array, " n"], counts: Float[Array, " n"], us: Float[Array, ""]
    ) -> Float[Array, "n 3"]:
        """Targets, from responses in units of the response to the US; the mean weight is 1."""
        weight = counts * counts.size / jnp.maximum(jnp.sum(counts), 1.0)
        return jnp.stack([us * response, us * self.tolerance * (_TOLERANCE_OFFSET + response), weight], axis=1)


def _integers(values: Any) -> Int[Array, "*n"]:
    """Integers of one type, whatever the precision."""
    return jnp.asarray(values, jnp.int32)


def _choose(values: Array, draw: Float[Array, "*n"]) -> Array:
    return values[jnp.floor(draw * values.size).astype(int)]
