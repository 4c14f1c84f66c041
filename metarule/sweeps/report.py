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
from metarule.runs.figures.canvas import COLOURS, figure_of, picture
from metarule.runs.files import csv_text, read_json
from metarule.runs.members import member_name
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT
from metarule.sweeps.plan import CASE
from metarule.sweeps.rows import write_whole
from metarule.tasks.scores import DIVERGED

__all__ = ["FIGURE", "Report", "axis_value", "best_member", "draw_sweep", "interquartile", "make_report", "of_metric"]
__all__ += ["paired", "read_plan", "read_report", "table"]

FIGURE = "sweep.png"
# Axes whose values span more than this factor are logarithmic.
_DECADE = 8.0

Rows = list[dict[str, Any]]


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

    rows: Rows
    summary: Rows
    score: str
    reference: str
    done: int
    cells: int


def make_report(directory: Path) -> Report:
    """Make the tables and the figure of the finished cells of a sweep, and write them into its directory.

    Raises:
        ConfigError: as of `read_report`.
    """
    report = read_report(directory)
    write_whole(directory / "results.csv", csv_text(report.rows))
    write_whole(directory / "summary.csv", csv_text(report.summary))
    draw_sweep(directory / FIGURE, read_plan(directory), report)
    return report


def read_report(directory: Path) -> Report:
    """Make the tables of the finished cells of a sweep.

    Raises:
        ConfigError: a directory without a sweep, or a sweep without a finished cell.
    """
    plan = read_plan(directory)
    rows = list(_rows(directory, plan))
    if not rows:
        raise ConfigError(f"{directory}: no cell of this sweep is finished")
    reference = plan["settings"][plan["reference"]]["label"]
    summary, done = list(_summary(plan, rows, reference)), len({row["cell"] for row in rows})
    return Report(rows, summary, plan["score"], reference, done, len(plan["cells"]))


def read_plan(directory: Path) -> dict[str, Any]:
    """Read the plan of a sweep: its axes, settings and cells; a directory without one is a ConfigError."""
    plan = read_json(directory / PLAN)
    if plan is None:
        raise ConfigError(f"{directory}: this is no sweep: {PLAN} is missing")
    return dict(plan)


def table(report: Report) -> str:
    """Format the score of each setting for the screen, with the number of finished cells if some are missing."""
    summary = of_metric(report.summary, report.score)
    width = max((len(row["setting"]) for row in summary), default=0) + 2
    lines = [
        f"{report.score}: interquartile mean over seeds and 95 % interval; difference from {report.reference}, paired; "
        "share of held-out networks that diverged",
        f"{'setting':<{width}}{'seeds':>6}{report.score:>10}   {'interval':<18}{'diverged':>10}{'difference':>12}   "
        "interval",
    ]
    for row in summary:
        # The mean over all seeds: an interquartile mean would miss rare values.
        diverged = [one["value"] for one in of_metric(report.rows, DIVERGED) if one["setting"] == row["setting"]]
        line = f"{row['setting']:<{width}}{row['seeds']:>6}{row['iqm']:>10.4f}   "
        line += f"{interval_text(row['low'], row['high']):<18}{np.mean(diverged) if diverged else np.nan:>10.4f}"
        if row["paired"]:
            ends = interval_text(row["difference_low"], row["difference_high"], "+.4f")
            line += f"{row['difference']:>+12.4f}   {ends}"
        lines.append(line)
    if report.done < report.cells:
        lines.append(f"{report.done} of {report.cells} cells are finished")
    return "\n".join(lines)


def best_member(directory: Path, report: Report) -> tuple[str, Path] | None:
    """Find the member with the best score on training tasks, so that its held-out score is not a lucky one.

    Returns:
        (description, its directory); None where that score was not measured, or the cell has no members.
    """
    rows = of_metric(report.rows, f"training_{report.score}")
    if not rows:
        return None
    best = max(rows, key=lambda row: row["value"])
    labels = [setting["label"] for setting in (read_json(directory / PLAN) or {})["settings"]]
    name = member_name(labels.index(best["setting"]), best["setting"], best["seed"])
    path = directory / CELLS / best["cell"] / DONE / name
    place = {"cell": best["cell"], "setting": best["setting"], "seed": best["seed"], "metric": report.score}
    (held_out,) = (row["value"] for row in report.rows if place.items() <= row.items())
    text = f"{best['setting']}, seed {best['seed']} ({report.score} {held_out:.4f} on held-out tasks)"
    return (text, path) if path.exists() else None


def interquartile(values: Real[np.ndarray, " n"], share: bool = False) -> Interval:
    """Mean of the middle half of independent values, with its 95 % interval; see `statistics.interval`.

    References:
        Agarwal et al. 2021 (the interquartile mean over runs).
    """
    return interval(np.asarray(values, float), 0.25, share)


def paired(one: Mapping[int, int | float], other: Mapping[int, int | float]) -> Interval | None:
    """Interquartile mean over seeds of the difference of two values, and its interval; None if no seed has both."""
    shared = [seed for seed in one if seed in other]
    return interquartile(np.array([one[seed] - other[seed] for seed in shared])) if shared else None


def axis_value(value: Any) -> Any:
    """Convert a value of an axis for a table."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def of_metric(rows: Rows, metric: str) -> Rows:
    """Select the rows of a metric, without values that are not finite."""
    return [row for row in rows if row["metric"] == metric and row.get("value", 0.0) is not None]


def _axes(plan: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: axis_value(setting["values"].get(axis)) for axis in plan["axes"]}


def _rows(directory: Path, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for cell in plan["cells"]:
        result = read_json(directory / CELLS / cell["name"] / DONE / RESULT)
        for point in result["points"] if result else ():
            setting = plan["settings"][point["setting"]]
            place = {"cell": cell["name"], "setting": setting["label"], **_axes(plan, setting), "seed": point["seed"]}
            yield from (place | {"metric": metric, "value": value} for metric, value in point["metrics"].items())


def _summary(plan: Mapping[str, Any], rows: Rows, reference: str) -> Iterator[dict[str, Any]]:
    """Make one row a setting and metric, over the `seeds` whose values are finite."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault((row["setting"], row["metric"]), {})[row["seed"]] = row["value"]
    metrics = dict.fromkeys(row["metric"] for row in rows)
    for setting, metric in ((setting, metric) for setting in plan["settings"] for metric in metrics):
        label, other = setting["label"], values.get((reference, metric), {})
        by_seed = values.get((label, metric))
        if by_seed is None:
            continue
        middle = interquartile(np.array(list(by_seed.values())), share=metric == plan["score"])
        difference = None if label == reference else paired(by_seed, other)
        row = {"setting": label, **_axes(plan, setting), "metric": metric, "seeds": len(by_seed)}
        row |= {"iqm": middle.mean, "low": middle.low, "high": middle.high, "reference": reference}
        row |= zip(("difference", "difference_low", "difference_high"), difference or (None, None, None))
        yield row | {"paired": len(by_seed.keys() & other.keys()) if difference else 0}


@picture
def draw_sweep(plan: Mapping[str, Any], report: Report) -> Any:
    """Draw the score against the first numeric axis, a line for each value of the others; else a row a setting."""
    varied = [axis for axis in plan["axes"] if len({_axes(plan, one)[axis] for one in plan["settings"]}) > 1]
    axis = next((axis for axis in varied if _is_numeric(plan, axis)), None)
    others = [name for name in varied if name != axis]
    lines = len({tuple(row[name] for name in others) for row in report.summary}) if axis else len(plan["settings"])
    figure, (axes,) = figure_of(1, height=4.0 + 0.2 * lines * (lines > 1) if axis else 1.5 + 0.4 * lines)
    if axis is None:
        _draw_rows(axes, report)
    else:
        _draw_lines(axes, plan, report, axis, others)
        if lines > 1:
            figure.legend(fontsize="small", loc="outside lower center")
    figure.suptitle("Held-out tasks: each seed, interquartile mean and 95 % interval")
    return figure


def _is_numeric(plan: Mapping[str, Any], axis: str) -> bool:
    values = [setting["values"].get(axis) for setting in plan["settings"]]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _draw_lines(axes: Any, plan: Mapping[str, Any], report: Report, axis: str, others: Sequence[str]) -> None:
    names, summary = plan["names"], of_metric(report.summary, report.score)
    lines = dict.fromkeys(tuple(row[name] for name in others) for row in summary)
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        settings, seeds = (
            [row for row in rows if tuple(row[name] for name in others) == line]
            for rows in (sorted(summary, key=lambda row: row[axis]), of_metric(report.rows, report.score))
        )
        positions = [row[axis] for row in settings]
        parts = (str(value) if name == CASE else f"{names[name]} = {value}" for name, value in zip(others, line))
        axes.plot(positions, [row["iqm"] for row in settings], color=colour, label=", ".join(parts) or None)
        low, high = ([row[end] for row in settings] for end in ("low", "high"))
        axes.fill_between(positions, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.scatter([row[axis] for row in seeds], [row["value"] for row in seeds], color=colour, s=10, alpha=0.6)
    ticks = sorted({setting["values"][axis] for setting in plan["settings"]})
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= _DECADE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
    axes.set(xlabel=names[axis], ylabel=report.score)


def _draw_rows(axes: Any, report: Report) -> None:
    summary, rows = (of_metric(rows, report.score) for rows in (report.summary, report.rows))
    for number, row in enumerate(summary):
        colour = COLOURS[number % len(COLOURS)]
        values = [one["value"] for one in rows if one["setting"] == row["setting"]]
        axes.scatter(values, np.full(len(values), number), color=colour, s=10, alpha=0.6)
        axes.vlines(row["iqm"], number - 0.2, number + 0.2, color=colour)
        axes.hlines(number, row["low"], row["high"], color=colour)
    axes.set_yticks(range(len(summary)), [row["setting"] for row in summary], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(report.score)
