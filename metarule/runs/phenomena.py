"""Reports of conditioning: phenomena by contender, timing and learning rate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metarule.analysis.comparison import INITIAL, LEARNED, Contender
from metarule.analysis.phenomena import (
    Example,
    conditioned_responses,
    example_animals,
    interpolated_pool,
    phenomena_shown,
    timings,
)
from metarule.analysis.tuning import RATES, theta_at_rate
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.lifetime.learner import Lifetime
from metarule.protocols import Learner
from metarule.runs import figures
from metarule.tasks.conditioning import FIELDS, Conditioning, ConditioningPool
from metarule.types import PRNGKey, Theta

__all__ = ["join_phenomena", "measure_phenomena", "phenomena_table"]

# `shown` is the minimum over timings on these sides; those outside the training range are reported, but do not count.
_COUNTED = ("trained", "between")
# Fields of a row that are no shares.
_POINT = ("field", "value", "side", "rate")
_MARKS = {"below": "<", "trained": "", "between": "~", "above": ">"}


def measure_phenomena(
    contenders: Mapping[str, Contender], key: PRNGKey, runs: int, folder: Path
) -> dict[str, dict[str, Any]]:
    """Measure and draw the share of animals that show each phenomenon, by timing, and for baselines by learning rate.

    shown = min over trained and interpolated timings of the share of animals with that timing

    Args:
        contenders: learner and θ by name; `learned` and `initial` among them, the others have one learning rate.
        key: for weights, timings and intensities, which are the same for all contenders.
        runs: animals a schedule and timing.
        folder: of the figures.

    Returns:
        The report, which can be written as JSON. For each phenomenon: `trained`, true if it was trained on; the share
        `shown` by the learned rule, by the `initial` rule and by each of the `baselines`; the shares `by_timing`; and
        the baselines' shares `by_rate`, with interpolated timings, at the rates of the coarse tuning grid.
    """
    learned = contenders[LEARNED]
    tasks = learned.learner.tasks
    assert isinstance(tasks, Conditioning)
    held_out, theta_of = interpolated_pool(tasks), jax.jit(theta_at_rate, static_argnums=0)
    baselines = {name: one.learner for name, one in contenders.items() if name not in (LEARNED, INITIAL)}

    def shares(learner: Learner, theta: Theta, pool: ConditioningPool) -> dict[str, float]:
        responses = jax.device_get(conditioned_responses(learner, theta, pool, key, runs))
        shown = phenomena_shown(tasks, responses)
        return {name: float(np.mean(animals)) for name, animals in shown.items()}

    by_timing = [
        (
            {"field": timing.field, "value": timing.value, "side": timing.side},
            {name: shares(one.learner, one.theta, timing.pool) for name, one in contenders.items()},
        )
        for timing in timings(tasks)
    ]
    by_rate = [
        ({"rate": rate}, {name: shares(one, theta_of(one, rate), held_out) for name, one in baselines.items()})
        for rate in RATES.tolist()
    ]
    report = {}
    for number, phenomenon in enumerate(tasks.phenomena):
        tables = [
            [point | {name: values[phenomenon.name] for name, values in row.items()} for point, row in table]
            for table in (by_timing, by_rate)
        ]
        report[phenomenon.name] = _report_row(number in tasks.trained, *tables)
    example = jax.device_get(example_animals(learned.learner, learned.theta, held_out, key))
    _draw(
        folder,
        learned.learner,
        report,
        example,
        f"{figures.run_name(folder.parent)}: {runs} animals a schedule and timing",
    )
    return report


def _report_row(trained: bool, by_timing: list[dict[str, Any]], by_rate: list[dict[str, Any]]) -> dict[str, Any]:
    """Row of the report: shares of each contender at its weakest trained or interpolated timing, and all shares."""
    inside = [row for row in by_timing if row["side"] in _COUNTED]
    weakest = {name: min(row[name] for row in inside) for name in inside[0] if name not in _POINT}
    shown = {"shown": weakest.pop(LEARNED), "initial": weakest.pop(INITIAL), "baselines": weakest}
    return {"trained": trained} | shown | {"by_timing": by_timing, "by_rate": by_rate}


def _draw(folder: Path, learner: Learner, report: Mapping[str, Any], example: Example, caption: str) -> None:
    """Draw the circuit, an animal of each schedule, and the shares by timing and by rate."""
    assert isinstance(learner, Lifetime) and isinstance(learner.tasks, Conditioning)
    if isinstance(learner.circuit, ConditioningCircuit):
        figures.draw_circuit(folder / "circuit.png", learner.circuit)
    shares = {name: row["shown"] for name, row in report.items()}
    figures.draw_phenomena(folder / "phenomena.png", learner.tasks, example, shares, caption)
    figures.draw_timings(folder / "timings.png", report, caption)
    if next(iter(report.values()))["baselines"]:
        figures.draw_rates(folder / "rates.png", report, caption)


def join_phenomena(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Average the shares over seeds by timing and by rate; `shown` is the lowest mean, `by_seed` that of each seed."""
    joint = {}
    for name, first in reports[0].items():
        tables = [_mean_rows([report[name][table] for report in reports]) for table in ("by_timing", "by_rate")]
        joint[name] = _report_row(first["trained"], *tables) | {
            "by_seed": [report[name]["shown"] for report in reports]
        }
    return joint


def _mean_rows(tables: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {name: rows[0][name] if name in _POINT else float(np.mean([row[name] for row in rows])) for name in rows[0]}
        for rows in zip(*tables, strict=True)
    ]


def phenomena_table(report: Mapping[str, Any]) -> str:
    """Format the shares: of all contenders at their weakest timing, and of the learned rule by timing."""
    first = next(iter(report.values()))
    labels = {name: name if row["trained"] else f"{name} (not trained on)" for name, row in report.items()}
    head = (LEARNED, *first["baselines"], INITIAL)
    lines = [f"{'share that shows it, weakest timing':<36}" + "".join(f"{name:>17}" for name in head)]
    for name, row in report.items():
        values = [row["shown"], *row["baselines"].values(), row["initial"]]
        lines.append(f"  {labels[name]:<34}" + "".join(f"{value:>17.3f}" for value in values))
    lines.append("(weakest of the trained timings and of those between them)")
    for field in FIELDS:
        numbers = [number for number, row in enumerate(first["by_timing"]) if row["field"] == field]
        timings = [first["by_timing"][number] for number in numbers]
        marks = "".join(f"{timing['value']:g}{_MARKS[timing['side']]}".rjust(8) for timing in timings)
        lines += ["", f"{f'learned, by {field}':<36}{marks}"]
        for name, row in report.items():
            shares = "".join(f"{row['by_timing'][number][LEARNED]:>8.3f}" for number in numbers)
            lines.append(f"  {labels[name]:<34}{shares}")
    return "\n".join([*lines, "(~ between the trained values, < below them, > above them)"])
