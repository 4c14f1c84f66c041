"""Which phenomena of conditioning a θ shows: animals and their controls, probed along their lives."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from metarule.lifetime import Lifetime
from metarule.tasks.conditioning import Conditioning, ConditioningPool, ConditioningTask
from metarule.tasks.criteria import Reading, holds, parse_criterion
from metarule.types import STIMULI, Carry, Integer, PRNGKey, Theta

__all__ = ["Responses", "respond", "shown"]


class Responses(NamedTuple):
    """What animals lived through, and how they would have responded to each CS at each step with the rule off.

    Attributes:
        task: schedules, with wanted responses.
        responses: to CS1 and CS2 before each step and at the end, in units of the response to the US at that time.
    """

    task: ConditioningTask
    responses: Float[Array, "schedules runs times 2"]


@partial(jax.jit, static_argnames=("lifetime", "runs"))
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
        What they lived through, and their responses.
    """
    tasks = lifetime.tasks
    assert isinstance(tasks, Conditioning)

    def one(schedule: Array, run: Integer) -> Responses:
        task_key, life_key = jax.random.split(jax.random.fold_in(key, run))
        task = tasks.sample(task_key, pool._replace(schedules=schedule[None]), 0)
        life, carry = lifetime.birth(life_key, task)

        def probe(carry: Carry) -> Float[Array, " stimuli"]:
            present = partial(lifetime.circuit.step, carry.weights, life.wiring, carry.activity)
            responses = jax.vmap(lambda stimulus: present(stimulus)[1][0])(tasks.examples(task))
            return responses[:-1] / responses[-1]

        def body(carry: Carry, time: Integer) -> tuple[Carry, Float[Array, " 2"]]:
            return lifetime.step(theta, life, carry, time)[0], probe(carry)

        carry, along = jax.lax.scan(body, carry, jnp.arange(lifetime.presentations))
        return Responses(task, jnp.concatenate([along, probe(carry)[None]]))

    schedules = jnp.arange(2 * len(tasks.phenomena))
    return jax.lax.map(lambda schedule: jax.vmap(partial(one, schedule))(jnp.arange(runs)), schedules)


def shown(
    tasks: Conditioning, responses: Float[Array, "schedules runs times 2"]
) -> dict[str, Bool[np.ndarray, " runs"]]:
    """Which runs show each phenomenon by its criteria.

    Args:
        tasks: which phenomena there are.
        responses: as from `respond`.

    Returns:
        By name, one truth value a run.
    """
    verdicts = {}
    for number, phenomenon in enumerate(tasks.phenomena):
        animal, control = np.asarray(responses[2 * number]), np.asarray(responses[2 * number + 1])
        readings = {
            Reading(moment, name): values[:, STIMULI.index(name)]
            for name in STIMULI[:-1]
            for moment, values in {
                "before": animal[:, 0],
                "peak": animal.max(axis=1),
                "after": animal[:, -1],
                "control": control[:, -1],
            }.items()
        }
        verdicts[phenomenon.name] = np.all(
            [holds(parse_criterion(text), readings) for text in phenomenon.shown], axis=0
        )
    return verdicts
