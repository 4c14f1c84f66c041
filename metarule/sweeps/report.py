"""What a sweep comes to: a long table, a summary over seeds, and a figure, made from what its cells left on disk.

results.csv   one row a setting, seed and metric
summary.csv   one row a setting and metric: interquartile mean over seeds and its interval
sweep.png     the score against the axes
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Real

from metarule.analysis.statistics import Interval, interval, interval_text
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import COLOURS, figure_of, picture, save
from metarule.runs.files import csv_text, read_json
from metarule.sweeps.cells import DONE
from metarule.sweeps.rows import write_whole
from metarule.tasks.scores import DIVERGED

__all__ = ["CELLS", "FIGURE", "PLAN", "Report", "interquartile", "make_report", "paired", "plain", "table"]

PLAN, CELLS, FIGURE = "plan.json", "cells", "sweep.png"
# Cut from either end for the mean of the middle half.
_TAIL = 0.25
# Where values of an axis span more than this, they are drawn on a logarithmic scale.
_DECADE = 8.0
_CASE = "case"


class Report(NamedTuple):
    """Tables of a sweep.

    Attributes:
        rows: one a cell, setting, seed and metric.
        summary: one a setting and metric.
        score: the metric that people quote.
        reference: label of the setting with which the others are compared.
        done: cells of which they are made.
        cells: cells of the whole sweep.
    """

    rows: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    score: str
    reference: str
    done: int
    cells: int


def make_report(directory: Path) -> Report:
    """Make the tables and the figure of a sweep, as far as it is done, and write them into its directory.

    Args:
        directory: of the sweep.

    Returns:
        The tables.

    Raises:
        ConfigError: a directory that holds no sweep, or one of which no cell is done.
    """
    plan = read_json(directory / PLAN)
    if plan is None:
        raise ConfigError(f"{directory}: this is no sweep: it has no {PLAN}")
    rows = list(_rows(directory, plan))
    if not rows:
        raise ConfigError(f"{directory}: no cell of this sweep is done yet")
    reference = plan["settings"][plan["reference"]]["label"]
    done = len({row["cell"] for row in rows})
    report = Report(rows, list(_summary(plan, rows)), plan["score"], reference, done, len(plan["cells"]))
    write_whole(directory / "results.csv", csv_text(report.rows))
    write_whole(directory / "summary.csv", csv_text(report.summary))
    _draw(directory / FIGURE, plan, report)
    return report


def table(report: Report) -> str:
    """The score of each setting for the screen, and how much of the sweep it is made of where that is not all."""
    rows = [row for row in report.summary if row["metric"] == report.score]
    diverged = _shares(report, DIVERGED)
    width = max((len(row["setting"]) for row in rows), default=0) + 2
    lines = [
        f"{report.score}: interquartile mean over seeds and 95 % interval; difference from {report.reference}, paired; "
        "share of held-out networks that diverged",
        f"{'setting':<{width}}{'seeds':>6}{report.score:>10}   {'interval':<18}{'diverged':>10}{'difference':>12}   "
        "interval",
    ]
    for row in rows:
        line = f"{row['setting']:<{width}}{row['seeds']:>6}{row['iqm']:>10.4f}   {interval_text(row['low'], row['high']):<18}"
        line += f"{diverged.get(row['setting'], np.nan):>10.4f}"
        if row["paired"]:
            line += (
                f"{row['difference']:>+12.4f}   {interval_text(row['difference_low'], row['difference_high'], '+.4f')}"
            )
        lines.append(line)
    if report.done < report.cells:
        lines.append(f"made of {report.done} of {report.cells} cells; the others are not done")
    return "\n".join(lines)


def interquartile(values: Real[np.ndarray, " n"], share: bool = False) -> Interval:
    """Mean of the middle half of independent values, with its 95 % interval; see `statistics.interval`.

    References:
        Agarwal et al. 2021 (the interquartile mean over runs).
    """
    return interval(np.asarray(values, float), _TAIL, share)


def paired(one: Mapping[int, int | float], other: Mapping[int, int | float]) -> Interval | None:
    """Interquartile mean of the difference of two values by seed, and its interval; None where no seed has both."""
    shared = [seed for seed in one if seed in other]
    return interquartile(np.array([one[seed] - other[seed] for seed in shared])) if shared else None


def _shares(report: Report, metric: str) -> dict[str, float]:
    """Mean of a metric over all seeds of each setting that has it: of what seldom is, the middle half knows nothing."""
    found: dict[str, list[float]] = {}
    for row in report.rows:
        if row["metric"] == metric and row["value"] is not None:
            found.setdefault(row["setting"], []).append(row["value"])
    return {setting: float(np.mean(values)) for setting, values in found.items()}


def _rows(directory: Path, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for cell in plan["cells"]:
        result = read_json(directory / CELLS / cell["name"] / DONE / "result.json")
        for point in result["points"] if result else ():
            setting = plan["settings"][point["setting"]]
            axes = {axis: plain(setting["values"].get(axis)) for axis in plan["axes"]}
            for metric, value in point["metrics"].items():
                where = {"cell": cell["name"], "setting": setting["label"], **axes, "seed": point["seed"]}
                yield where | {"metric": metric, "value": value}


def _summary(plan: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row a setting and metric; values that are not finite are left out, and `seeds` says how many are in."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault((row["setting"], row["metric"]), {})[row["seed"]] = row["value"]
    reference = plan["settings"][plan["reference"]]["label"]
    metrics = dict.fromkeys(row["metric"] for row in rows)
    for setting in plan["settings"]:
        axes = {axis: plain(setting["values"].get(axis)) for axis in plan["axes"]}
        for metric in metrics:
            found = values.get((setting["label"], metric), {})
            if not found:
                continue
            other = values.get((reference, metric), {})
            middle = interquartile(np.array(list(found.values())), share=metric == plan["score"])
            row = {"setting": setting["label"], **axes, "metric": metric, "seeds": len(found)}
            row |= {"iqm": middle.mean, "low": middle.low, "high": middle.high, "reference": reference}
            row |= dict.fromkeys(("difference", "difference_low", "difference_high")) | {"paired": 0}
            apart = paired(found, other)
            if apart is not None and setting["label"] != reference:
                row |= {"difference": apart.mean, "difference_low": apart.low, "difference_high": apart.high}
                row |= {"paired": len(found.keys() & other.keys())}
            yield row


def plain(value: Any) -> Any:
    """A value of an axis as it stands in a table."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


@picture
def _draw(file: Path, plan: Mapping[str, Any], report: Report) -> None:
    """The score against the first axis of numbers, one line for all else; without one, a row a setting."""
    axis = next((axis for axis in plan["axes"] if _is_numeric(plan, axis)), None)
    rest = [name for name in plan["axes"] if name != axis and _varies(plan, name)]
    lines = (
        len(plan["settings"]) if axis is None else len({tuple(row[name] for name in rest) for row in report.summary})
    )
    figure, (axes,) = figure_of(1, height=1.5 + 0.4 * lines if axis is None else 4.0 + 0.2 * lines * (lines > 1))
    if axis is None:
        _draw_rows(axes, report)
    else:
        _draw_lines(axes, plan, report, axis, rest)
        if lines > 1:
            figure.legend(frameon=False, fontsize="small", loc="outside lower center")
    figure.suptitle("Held-out tasks: each seed, interquartile mean and 95 % interval")
    save(figure, file)


def _is_numeric(plan: Mapping[str, Any], axis: str) -> bool:
    values = [setting["values"].get(axis) for setting in plan["settings"]]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numeric and _varies(plan, axis)


def _varies(plan: Mapping[str, Any], axis: str) -> bool:
    return len({plain(setting["values"].get(axis)) for setting in plan["settings"]}) > 1


def _draw_lines(axes: Any, plan: Mapping[str, Any], report: Report, axis: str, others: Sequence[str]) -> None:
    names = plan["names"]
    summary = [row for row in report.summary if row["metric"] == report.score]
    lines = dict.fromkeys(tuple(row[name] for name in others) for row in summary)
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        mine = sorted(
            (row for row in summary if tuple(row[name] for name in others) == line), key=lambda row: row[axis]
        )
        where = [row[axis] for row in mine]
        parts = (str(value) if name == _CASE else f"{names[name]} = {value}" for name, value in zip(others, line))
        label = ", ".join(parts)
        axes.plot(where, [row["iqm"] for row in mine], color=colour, label=label or None)
        low, high = ([row[end] for row in mine] for end in ("low", "high"))
        axes.fill_between(where, low, high, color=colour, alpha=0.2, linewidth=0)
        dots = [row for row in report.rows if row["metric"] == report.score and row["value"] is not None]
        dots = [row for row in dots if tuple(row[name] for name in others) == line]
        axes.scatter([row[axis] for row in dots], [row["value"] for row in dots], color=colour, s=10, alpha=0.6)
    where = sorted({setting["values"][axis] for setting in plan["settings"]})
    if where[0] > 0 and where[-1] / where[0] >= _DECADE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(where, [f"{value:g}" for value in where])
    axes.set(xlabel=names[axis], ylabel=report.score)


def _draw_rows(axes: Any, report: Report) -> None:
    summary = [row for row in report.summary if row["metric"] == report.score]
    for number, row in enumerate(summary):
        colour = COLOURS[number % len(COLOURS)]
        found = (one for one in report.rows if (one["setting"], one["metric"]) == (row["setting"], report.score))
        mine = [one["value"] for one in found if one["value"] is not None]
        axes.scatter(mine, np.full(len(mine), number), color=colour, s=10, alpha=0.6)
        axes.vlines(row["iqm"], number - 0.2, number + 0.2, color=colour)
        axes.hlines(number, row["low"], row["high"], color=colour)
    axes.set_yticks(range(len(summary)), [row["setting"] for row in summary], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(report.score)
