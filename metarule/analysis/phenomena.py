"""Phenomena of conditioning that a θ shows: responses of animals and their controls along their lifetimes."""

from collections.abc import Mapping
from functools import partial
from math import lcm
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from metarule.analysis.evaluation import map_lifetimes, sample_lifetime
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import step_at
from metarule.parallel.devices import sharded_jit
from metarule.tasks.conditioning import FIELDS, Conditioning, ConditioningPool, ConditioningTask
from metarule.tasks.criteria import Reading, parse_criterion, satisfies
from metarule.types import STIMULI, Integer, LearnerState, PRNGKey, Theta

__all__ = [
    "Example",
    "Responses",
    "Timing",
    "conditioned_responses",
    "example_animals",
    "interpolated_pool",
    "phenomena_shown",
    "timings",
]


# Steps in a turn of the loop of animals, a multiple of those in a turn of any loop.
_TURN = 8


class Example(NamedTuple):
    """One lifetime of each schedule, for figures.

    Attributes:
        task: the task.
        responses: to CS1 and CS2 before each step and at the end, as multiples of the response to the US.
    """

    task: ConditioningTask
    responses: Float[Array, "schedules times 2"]


class Responses(NamedTuple):
    """Responses to CS1 and CS2 with plasticity off, as multiples of the response to the US.

    The animal of phenomenon i is schedule 2i, its control is schedule 2i + 1.

    Attributes:
        before: at step 0.
        peak: largest of the lifetime.
        after: at the end of the lifetime.
    """

    before: Float[Array, "schedules runs 2"]
    peak: Float[Array, "schedules runs 2"]
    after: Float[Array, "schedules runs 2"]


class Timing(NamedTuple):
    """One delay, gap or intensity, and schedules that have it.

    Attributes:
        field: `delays`, `gaps` or `intensities`.
        value: the delay, the gap, or the intensity of every stimulus.
        side: `trained`, or the position relative to the trained values: `below`, `between` or `above`.
        pool: schedules with this value. Their other values are trained ones if this one is, and otherwise lie between
            the trained ones, so that at most one value lies outside the trained range.
    """

    field: str
    value: float
    side: str
    pool: ConditioningPool


def timings(tasks: Conditioning) -> list[Timing]:
    """List every delay, gap and intensity of a family, in order of field and value.

    All pools have one shape, so that `conditioned_responses` is compiled once.
    """
    entries = []
    for field in FIELDS:
        for side in ("below", "trained", "between", "above"):
            others = {name: tasks.values(name, "trained" if side == "trained" else "between") for name in FIELDS}
            for value in tasks.values(field, side):
                pool = _pool(tasks, others | {field: (value,)}, trained=side == "trained")
                entries.append(Timing(field, value, side, pool))
    return sorted(entries, key=lambda timing: (FIELDS.index(timing.field), timing.value))


def interpolated_pool(tasks: Conditioning) -> ConditioningPool:
    """Schedules whose values are all held out and between the trained ones; the shape is that of `timings`."""
    return _pool(tasks, {name: tasks.values(name, "between") for name in FIELDS}, trained=False)


def _pool(tasks: Conditioning, values: Mapping[str, tuple], trained: bool) -> ConditioningPool:
    """A pool of one shape for one value, all trained values and all interpolated values: values are repeated."""
    sizes = {name: lcm(len(tasks.values(name, "trained")), len(tasks.values(name, "between"))) for name in FIELDS}
    repeated = {name: values[name] * (size // len(values[name])) for name, size in sizes.items()}
    return tasks.pool(**repeated, trained=trained)


@sharded_jit("lifetime", "runs")
def conditioned_responses(
    lifetime: Lifetime, theta: Theta, pool: ConditioningPool, key: PRNGKey, runs: int
) -> Responses:
    """Train fresh animals on every schedule, including those that meta-training leaves out, and probe them.

    Run i of an animal and of its control has the same initial weights, timings and intensities.

    Args:
        lifetime: the learner; its tasks are `Conditioning`.
        theta: θ.
        pool: timings and intensities.
        key: decides weights, timings and intensities.
        runs: animals for each schedule.
    """

    def one_schedule(schedule: Array) -> Responses:
        def one_run(run: Integer) -> Responses:
            responses = _animal(lifetime, theta, pool, key, schedule, run)[1]
            return Responses(responses[0], jnp.max(responses, axis=0), responses[-1])

        return map_lifetimes(one_run, runs)

    return jax.lax.map(one_schedule, jnp.arange(2 * len(_tasks(lifetime).phenomena)))


@sharded_jit("lifetime")
def example_animals(lifetime: Lifetime, theta: Theta, pool: ConditioningPool, key: PRNGKey) -> Example:
    """The first run of each schedule of `conditioned_responses`, with responses along the lifetime."""
    schedules = jnp.arange(2 * len(_tasks(lifetime).phenomena))
    return Example(*jax.vmap(lambda schedule: _animal(lifetime, theta, pool, key, schedule, 0))(schedules))


def _tasks(lifetime: Lifetime) -> Conditioning:
    if not isinstance(lifetime.tasks, Conditioning):
        raise ValueError(f"tasks: phenomena are those of Conditioning; these are {type(lifetime.tasks).__name__}")
    return lifetime.tasks


def _animal(
    lifetime: Lifetime, theta: Theta, pool: ConditioningPool, key: PRNGKey, schedule: Array, run: Integer
) -> tuple[ConditioningTask, Float[Array, "times 2"]]:
    """Task of an animal, and its responses before each step and at the end."""
    only = pool._replace(schedules=schedule[None])
    task, lifetime_key, _ = sample_lifetime(lifetime, only, key, run, 1)
    context, state = lifetime.init(theta, lifetime_key, task)

    def probe(state: LearnerState) -> Float[Array, " 2"]:
        present = partial(lifetime.circuit.step, state.weights, context.wiring, state.circuit)
        responses = jax.vmap(lambda stimulus: present(stimulus).output[0])(_tasks(lifetime).examples(task))
        # An infinite response to the US would make the others look like 0.
        return jnp.where(jnp.all(jnp.isfinite(responses)), responses[:-1] / responses[-1], jnp.nan)

    def body(state: LearnerState, t: Integer) -> tuple[LearnerState, Float[Array, " 2"]]:
        return step_at(lifetime, theta, context, state, t)[0], probe(state)

    # Criteria compare responses, which may not differ by rounding: the last one is computed in the loop as the others
    # are, which goes on for a whole number of turns where it is unrolled. Those steps change nothing that is read.
    turns = -(-(lifetime.steps + 1) // _TURN)
    return task, loop(body, state, jnp.arange(turns * _TURN))[1][: lifetime.steps + 1]


def phenomena_shown(tasks: Conditioning, responses: Responses) -> dict[str, Bool[np.ndarray, " runs"]]:
    """Decide by its criteria which runs show each phenomenon; runs with a response that is not finite show none.

    Args:
        tasks: the family with its phenomena.
        responses: from `conditioned_responses`.

    Returns:
        By name, one truth value for each run.
    """
    verdicts = {}
    for number, phenomenon in enumerate(tasks.phenomena):
        moments = {name: getattr(responses, name)[2 * number] for name in ("before", "peak", "after")}
        moments["control"] = responses.after[2 * number + 1]
        readings = {
            Reading(moment, name): np.asarray(values)[:, STIMULI.index(name)]
            for moment, values in moments.items()
            for name in STIMULI[:-1]
        }
        finite = np.all(np.isfinite(list(readings.values())), axis=0)
        satisfied = [satisfies(parse_criterion(text), readings) for text in phenomenon.criteria]
        verdicts[phenomenon.name] = finite & np.all(satisfied, axis=0)
    return verdicts
