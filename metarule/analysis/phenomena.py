"""Which phenomena of conditioning a θ shows: animals and their controls, probed along their lifetimes."""

from collections.abc import Mapping
from functools import partial
from math import lcm
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import step_at
from metarule.parallel.batching import batch_lifetimes
from metarule.parallel.devices import sharded_jit
from metarule.tasks.conditioning import FIELDS, Conditioning, ConditioningPool, ConditioningTask
from metarule.tasks.criteria import Reading, holds, parse_criterion
from metarule.types import STIMULI, Integer, LearnerState, PRNGKey, Theta

__all__ = ["Example", "Responses", "Timing", "interpolated", "respond", "shown", "timings"]

# Where a value lies from those trained on, in the order of values.
_SIDES = ("below", "trained", "between", "above")


class Example(NamedTuple):
    """The life of one animal for each schedule, to look at.

    Attributes:
        task: what it lived through.
        responses: to CS1 and CS2 before each step and at the end, in units of the response to the US.
    """

    task: ConditioningTask
    responses: Float[Array, "schedules times 2"]


class Responses(NamedTuple):
    """How animals would have responded to CS1 and CS2 with the rule off, in units of the response to the US.

    The animal of phenomenon i is schedule 2i, its control schedule 2i + 1.

    Attributes:
        before: at birth.
        peak: largest of the lifetime.
        after: at its end.
        example: the first run of each schedule.
    """

    before: Float[Array, "schedules runs 2"]
    peak: Float[Array, "schedules runs 2"]
    after: Float[Array, "schedules runs 2"]
    example: Example


class Timing(NamedTuple):
    """One delay, gap or intensity, and schedules that have it.

    Attributes:
        field: `delays`, `gaps` or `intensities`.
        value: the delay, the gap, or the intensity of every stimulus.
        side: `trained`, or where it lies from the values trained on: `below`, `between` or `above`.
        pool: schedules with this value. What else they draw is trained on where the value is, and else lies between the
            values trained on, so that each row goes outside in one respect alone.
    """

    field: str
    value: float
    side: str
    pool: ConditioningPool


def timings(tasks: Conditioning) -> list[Timing]:
    """Every delay, gap and intensity of a family by itself, in order of field and value.

    Pools are of one shape, so that `respond` is compiled once.

    Args:
        tasks: which values there are.

    Returns:
        One entry a value.
    """
    found = []
    for field in FIELDS:
        for side in _SIDES:
            usual = {name: tasks.values(name, "trained" if side == "trained" else "between") for name in FIELDS}
            for value in tasks.values(field, side):
                pool = _pool(tasks, usual | {field: (value,)}, trained=side == "trained")
                found.append(Timing(field, value, side, pool))
    return sorted(found, key=lambda timing: (FIELDS.index(timing.field), timing.value))


def interpolated(tasks: Conditioning) -> ConditioningPool:
    """Schedules of which all values are held out, and lie between those trained on; of one shape with `timings`."""
    return _pool(tasks, {name: tasks.values(name, "between") for name in FIELDS}, trained=False)


def _pool(tasks: Conditioning, values: Mapping[str, tuple], trained: bool) -> ConditioningPool:
    """A pool with values repeated until one, all trained and all interpolated ones would be equally long."""
    sizes = {name: lcm(len(tasks.values(name, "trained")), len(tasks.values(name, "between"))) for name in FIELDS}
    repeated = {name: values[name] * (size // len(values[name])) for name, size in sizes.items()}
    return tasks.pool(**repeated, trained=trained)


@sharded_jit("lifetime", "runs")
def respond(lifetime: Lifetime, theta: Theta, pool: ConditioningPool, key: PRNGKey, runs: int) -> Responses:
    """Let fresh animals live through every schedule, those included that are never trained on.

    Run number i of an animal and of its control has the same initial weights, timings and intensities.

    Args:
        lifetime: who lives; its tasks are those of `Conditioning`.
        theta: θ.
        pool: timings and intensities.
        key: decides weights, timings and intensities.
        runs: animals a schedule.

    Returns:
        Their responses.
    """
    tasks = lifetime.tasks
    assert isinstance(tasks, Conditioning)

    def live_through(schedule: Array, run: Integer) -> Example:
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(key, run))
        task = tasks.sample(task_key, pool._replace(schedules=schedule[None]), 0)
        context, state = lifetime.init(lifetime_key, task)

        def probe(state: LearnerState) -> Float[Array, " 2"]:
            present = partial(lifetime.circuit.step, state.weights, context.wiring, state.circuit)
            responses = jax.vmap(lambda stimulus: present(stimulus).output[0])(tasks.examples(task))
            # One that is infinite would make the others look as if they were gone.
            return jnp.where(jnp.all(jnp.isfinite(responses)), responses[:-1] / responses[-1], jnp.nan)

        def body(state: LearnerState, t: Integer) -> tuple[LearnerState, Float[Array, " 2"]]:
            return step_at(lifetime, theta, context, state, t)[0], probe(state)

        state, along = loop(body, state, jnp.arange(lifetime.steps))
        return Example(task, jnp.concatenate([along, probe(state)[None]]))

    def one_schedule(schedule: Array) -> Responses:
        lifetimes = batch_lifetimes(partial(live_through, schedule), runs)(jnp.arange(runs))
        seen = lifetimes.responses
        first = jax.tree.map(lambda leaf: leaf[0], lifetimes)
        return Responses(before=seen[:, 0], peak=jnp.max(seen, axis=1), after=seen[:, -1], example=first)

    return jax.lax.map(one_schedule, jnp.arange(2 * len(tasks.phenomena)))


def shown(tasks: Conditioning, responses: Responses) -> dict[str, Bool[np.ndarray, " runs"]]:
    """Which runs show each phenomenon, by its criteria; one whose responses are not finite shows nothing.

    Args:
        tasks: which phenomena there are.
        responses: as from `respond`.

    Returns:
        By name, one truth value a run.
    """
    verdicts = {}
    for number, phenomenon in enumerate(tasks.phenomena):
        animal, control = 2 * number, 2 * number + 1
        moments = {
            "before": responses.before[animal],
            "peak": responses.peak[animal],
            "after": responses.after[animal],
            "control": responses.after[control],
        }
        readings = {
            Reading(moment, name): np.asarray(values)[:, STIMULI.index(name)]
            for moment, values in moments.items()
            for name in STIMULI[:-1]
        }
        measured = np.all(np.isfinite(list(readings.values())), axis=0)
        held = [holds(parse_criterion(text), readings) for text in phenomenon.shown]
        verdicts[phenomenon.name] = measured & np.all(held, axis=0)
    return verdicts
