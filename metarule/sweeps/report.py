"""Report of a sweep: a long table, a summary over seeds, and a figure, from the results of its cells.

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
# Share that is cut from either end for the interquartile mean.
_TAIL = 0.25
# Axes whose values span more than this factor are logarithmic.
_DECADE = 8.0
_CASE = "case"


class Report(NamedTuple):
    """Tables of a sweep.

    Attributes:
        rows: one a cell, setting, seed and metric.
        summary: one a setting and metric.
        score: main metric.
        reference: label of the setting with which the others are compared.
        done: finished cells.
        cells: cells of the whole sweep.
    """

    rows: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    score: str
    reference: str
    done: int
    cells: int


def make_report(directory: Path) -> Report:
    """Make the tables and the figure of the finished cells of a sweep, and write them into its directory.

    Args:
        directory: of the sweep.

    Returns:
        The tables.

    Raises:
        ConfigError: a directory without a sweep, or a sweep without a finished cell.
    """
    plan = read_json(directory / PLAN)
    if plan is None:
        raise ConfigError(f"{directory}: this is no sweep: {PLAN} is missing")
    rows = list(_rows(directory, plan))
    if not rows:
        raise ConfigError(f"{directory}: no cell of this sweep is finished")
    reference = plan["settings"][plan["reference"]]["label"]
    done = len({row["cell"] for row in rows})
    report = Report(rows, list(_summary(plan, rows)), plan["score"], reference, done, len(plan["cells"]))
    write_whole(directory / "results.csv", csv_text(report.rows))
    write_whole(directory / "summary.csv", csv_text(report.summary))
    _draw(directory / FIGURE, plan, report)
    return report


def table(report: Report) -> str:
    """Format the score of each setting for the screen, with the number of finished cells if some are missing."""
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
        line = f"{row['setting']:<{width}}{row['seeds']:>6}{row['iqm']:>10.4f}   "
        line += f"{interval_text(row['low'], row['high']):<18}{diverged.get(row['setting'], np.nan):>10.4f}"
        if row["paired"]:
            line += (
                f"{row['difference']:>+12.4f}   {interval_text(row['difference_low'], row['difference_high'], '+.4f')}"
            )
        lines.append(line)
    if report.done < report.cells:
        lines.append(f"{report.done} of {report.cells} cells are finished")
    return "\n".join(lines)


def interquartile(values: Real[np.ndarray, " n"], share: bool = False) -> Interval:
    """Mean of the middle half of independent values, with its 95 % interval; see `statistics.interval`.

    References:
        Agarwal et al. 2021 (the interquartile mean over runs).
    """
    return interval(np.asarray(values, float), _TAIL, share)


def paired(one: Mapping[int, int | float], other: Mapping[int, int | float]) -> Interval | None:
    """Interquartile mean over seeds of the difference of two values, and its interval; None if no seed has both."""
    shared = [seed for seed in one if seed in other]
    return interquartile(np.array([one[seed] - other[seed] for seed in shared])) if shared else None


def _shares(report: Report, metric: str) -> dict[str, float]:
    """Mean of a metric over all seeds of each setting: an interquartile mean would miss rare values."""
    values: dict[str, list[float]] = {}
    for row in report.rows:
        if row["metric"] == metric and row["value"] is not None:
            values.setdefault(row["setting"], []).append(row["value"])
    return {setting: float(np.mean(values)) for setting, values in values.items()}


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
    """Make one row a setting and metric, over the `seeds` whose values are finite."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault((row["setting"], row["metric"]), {})[row["seed"]] = row["value"]
    reference = plan["settings"][plan["reference"]]["label"]
    metrics = dict.fromkeys(row["metric"] for row in rows)
    for setting in plan["settings"]:
        axes = {axis: plain(setting["values"].get(axis)) for axis in plan["axes"]}
        for metric in metrics:
            by_seed = values.get((setting["label"], metric), {})
            if not by_seed:
                continue
            other = values.get((reference, metric), {})
            middle = interquartile(np.array(list(by_seed.values())), share=metric == plan["score"])
            row = {"setting": setting["label"], **axes, "metric": metric, "seeds": len(by_seed)}
            row |= {"iqm": middle.mean, "low": middle.low, "high": middle.high, "reference": reference}
            row |= dict.fromkeys(("difference", "difference_low", "difference_high")) | {"paired": 0}
            difference = paired(by_seed, other)
            if difference is not None and setting["label"] != reference:
                row |= {
                    "difference": difference.mean,
                    "difference_low": difference.low,
                    "difference_high": difference.high,
                }
                row |= {"paired": len(by_seed.keys() & other.keys())}
            yield row


def plain(value: Any) -> Any:
    """Convert a value of an axis for a table."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


@picture
def _draw(file: Path, plan: Mapping[str, Any], report: Report) -> None:
    """Draw the score against the first numeric axis, a line for each value of the others; else a row a setting."""
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
        settings = sorted(
            (row for row in summary if tuple(row[name] for name in others) == line), key=lambda row: row[axis]
        )
        positions = [row[axis] for row in settings]
        parts = (str(value) if name == _CASE else f"{names[name]} = {value}" for name, value in zip(others, line))
        label = ", ".join(parts)
        axes.plot(positions, [row["iqm"] for row in settings], color=colour, label=label or None)
        low, high = ([row[end] for row in settings] for end in ("low", "high"))
        axes.fill_between(positions, low, high, color=colour, alpha=0.2, linewidth=0)
        dots = [row for row in report.rows if row["metric"] == report.score and row["value"] is not None]
        dots = [row for row in dots if tuple(row[name] for name in others) == line]
        axes.scatter([row[axis] for row in dots], [row["value"] for row in dots], color=colour, s=10, alpha=0.6)
    ticks = sorted({setting["values"][axis] for setting in plan["settings"]})
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= _DECADE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
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
