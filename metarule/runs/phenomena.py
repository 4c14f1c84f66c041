"""Reports of conditioning: who shows which phenomenon, at which timings, and at which learning rates."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarule.analysis.baselines import RATES, at_rate
from metarule.analysis.comparison import INITIAL, LEARNED, Contender
from metarule.analysis.phenomena import Example, interpolated, respond, shown, timings
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.lifetime.learner import Lifetime
from metarule.runs import figures
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
    usual = interpolated(tasks)

    def shares(learner: Learner, theta: Theta, pool: ConditioningPool) -> tuple[dict[str, float], Example]:
        responses = jax.device_get(respond(learner, theta, pool, key, runs))
        return {name: float(np.mean(held)) for name, held in shown(tasks, responses).items()}, responses.example

    by_timing = {
        name: [shares(one.learner, one.theta, place.pool)[0] for place in places] for name, one in contenders.items()
    }
    by_rate = {
        name: [shares(one.learner, jax.jit(partial(at_rate, one.learner))(rate), usual)[0] for rate in RATES.tolist()]
        for name, one in contenders.items()
        if name not in (LEARNED, INITIAL)
    }
    report = {
        phenomenon.name: _claimed(
            trained=number in tasks.trained,
            by_timing=[
                {"field": place.field, "value": place.value, "side": place.side}
                | {name: found[row][phenomenon.name] for name, found in by_timing.items()}
                for row, place in enumerate(places)
            ],
            by_rate=[
                {"rate": rate} | {name: found[row][phenomenon.name] for name, found in by_rate.items()}
                for row, rate in enumerate(RATES.tolist())
            ],
        )
        for number, phenomenon in enumerate(tasks.phenomena)
    }
    return Phenomena(report, shares(lifetime, contenders[LEARNED].theta, usual)[1])


def _claimed(trained: bool, by_timing: list[dict[str, Any]], by_rate: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the report: what each contender shows at its weakest trained or interpolated timing, and all shares."""
    inside = [row for row in by_timing if row["side"] in _CLAIMED]
    weakest = {name: min(row[name] for row in inside) for name in inside[0] if name not in ("field", "value", "side")}
    return {
        "trained": trained,
        "shown": weakest.pop(LEARNED),
        "initial": weakest.pop(INITIAL),
        "baselines": weakest,
        "by_timing": by_timing,
        "by_rate": by_rate,
    }


def draw_report(folder: Path, lifetime: Lifetime, found: Phenomena) -> None:
    """Draw the circuit, an animal of each schedule, and the shares by timing and by rate.

    Args:
        folder: where the pictures go.
        lifetime: the learner of the learned rule.
        found: as from `measure_phenomena`.
    """
    assert isinstance(lifetime.tasks, Conditioning)
    shares = {name: row["shown"] for name, row in found.report.items()}
    if isinstance(lifetime.circuit, ConditioningCircuit):
        figures.draw_circuit(folder / "circuit.png", lifetime.circuit)
    figures.draw_phenomena(folder / "phenomena.png", lifetime.tasks, found.example, shares)
    figures.draw_timings(folder / "timings.png", found.report)
    if next(iter(found.report.values()))["baselines"]:
        figures.draw_rates(folder / "rates.png", found.report)


def join_phenomena(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean shares over seeds by timing and by rate, the weakest of these means, and the weakest timing of each seed."""
    return {
        name: _claimed(
            trained=first["trained"],
            by_timing=_mean_rows([report[name]["by_timing"] for report in reports], keep=("field", "value", "side")),
            by_rate=_mean_rows([report[name]["by_rate"] for report in reports], keep=("rate",)),
        )
        | {"by_seed": [report[name]["shown"] for report in reports]}
        for name, first in reports[0].items()
    }


def _mean_rows(tables: Sequence[Sequence[Mapping[str, Any]]], keep: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {name: rows[0][name] if name in keep else float(np.mean([row[name] for row in rows])) for name in rows[0]}
        for rows in zip(*tables, strict=True)
    ]


def phenomena_table(report: Mapping[str, Any]) -> str:
    """Shares for the screen: of all contenders at their weakest timing, and of the learned rule by timing."""
    first = next(iter(report.values()))
    others = list(first["baselines"])
    head = (LEARNED, *others, INITIAL)
    lines = [f"{'shown in this share, weakest timing':<36}" + "".join(f"{name:>17}" for name in head)]
    for name, row in report.items():
        values = [row["shown"], *row["baselines"].values(), row["initial"]]
        lines.append(f"  {_label(name, row):<34}" + "".join(f"{value:>17.3f}" for value in values))
    lines.append("(weakest of the timings trained on and those between them)")
    for field in FIELDS:
        rows = [number for number, row in enumerate(first["by_timing"]) if row["field"] == field]
        marks = "".join(f"{_mark(first['by_timing'][number]):>8}" for number in rows)
        lines += ["", f"{f'learned, by {field}':<36}{marks}"]
        for name, row in report.items():
            shares = "".join(f"{row['by_timing'][number][LEARNED]:>8.3f}" for number in rows)
            lines.append(f"  {_label(name, row):<34}{shares}")
    return "\n".join([*lines, "(~ between those trained on, < and > outside: below and above)"])


def _label(name: str, row: Mapping[str, Any]) -> str:
    return name if row["trained"] else f"{name} (not trained on)"


def _mark(timing: Mapping[str, Any]) -> str:
    sides = {"below": "<", "trained": "", "between": "~", "above": ">"}
    return f"{timing['value']:g}{sides[timing['side']]}"
