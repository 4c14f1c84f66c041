"""Reports of conditioning: who shows which phenomenon, at which timings, and at which learning rates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarule import figures
from metarule.baselines import RATES, at_rate
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.comparison import INITIAL, LEARNED, Contender
from metarule.lifetime import Lifetime
from metarule.phenomena import Example, respond, shown, timings
from metarule.tasks.conditioning import FIELDS, Conditioning, ConditioningPool
from metarule.types import Learner, PRNGKey, Theta

__all__ = ["Phenomena", "draw_report", "join_phenomena", "measure_phenomena", "phenomena_table"]

# The claim is made for timings on these sides; what lies outside the range trained on is reported beside it.
_CLAIMED = ("trained", "between")


class Phenomena(NamedTuple):
    """Outcome of probing phenomena.

    Attributes:
        report: by phenomenon, as from `measure_phenomena`; it can be written as JSON.
        example: one animal of the learned rule for each schedule, with interpolated timings.
    """

    report: dict[str, dict[str, Any]]
    example: Example


def measure_phenomena(contenders: Mapping[str, Contender], key: PRNGKey, runs: int) -> Phenomena:
    """Share of animals that show each phenomenon, by timing, and for baselines by learning rate.

    shown = min over trained and interpolated timings of the share of animals with that timing

    Args:
        contenders: learner and θ by name; `learned` and `initial` among them, the others have one learning rate.
        key: decides weights, timings and intensities, which are the same for all contenders.
        runs: animals a schedule and timing.

    Returns:
        The report: for each phenomenon whether it was `trained` on; the share `shown` by the learned rule, by the
        `initial` rule and by each of the `baselines`; the learned rule's share `by_timing`; and each baseline's share
        `by_rate`, with interpolated timings, at the rates of the coarse grid on which it was tuned.
    """
    lifetime = contenders[LEARNED].learner
    tasks = lifetime.tasks
    assert isinstance(lifetime, Lifetime) and isinstance(tasks, Conditioning)
    places = timings(tasks)
    usual = tasks.interpolated()

    def shares(learner: Learner, theta: Theta, pool: ConditioningPool) -> tuple[dict[str, float], Example]:
        responses = jax.device_get(respond(learner, theta, pool, key, runs))
        return {name: float(np.mean(held)) for name, held in shown(tasks, responses).items()}, responses.example

    by_timing = {
        name: [shares(one.learner, one.theta, place.pool)[0] for place in places] for name, one in contenders.items()
    }
    by_rate = {
        name: [shares(one.learner, at_rate(one.learner, rate), usual)[0] for rate in RATES.tolist()]
        for name, one in contenders.items()
        if name not in (LEARNED, INITIAL)
    }
    report = {
        phenomenon.name: _joined(
            {
                "trained": number in tasks.trained,
                "by_timing": [
                    {"field": place.field, "value": place.value, "side": place.side}
                    | {name: found[row][phenomenon.name] for name, found in by_timing.items()}
                    for row, place in enumerate(places)
                ],
                "by_rate": [
                    {"rate": rate} | {name: found[row][phenomenon.name] for name, found in by_rate.items()}
                    for row, rate in enumerate(RATES.tolist())
                ],
            }
        )
        for number, phenomenon in enumerate(tasks.phenomena)
    }
    return Phenomena(report, shares(lifetime, contenders[LEARNED].theta, usual)[1])
