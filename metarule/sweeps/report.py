"""Report of a sweep: a long table, a summary over seeds, and a figure, from the results of its cells.

results.csv   one row a setting, seed and metric
summary.csv   one row a setting and metric: interquartile mean over seeds and its interval
sweep.png     the score against the axes, in the formats of the base config
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Real

from metarule.analysis.statistics import Interval, interval, interval_text
from metarule.config.toml import ConfigError
from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import figure_of, formats, picture
from metarule.runs.figures.labels import draw_caption, run_name, score_label
from metarule.runs.figures.methods import legend_entries, mark, style_of
from metarule.runs.files import csv_text, read_json
from metarule.runs.members import member_name
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT
from metarule.sweeps.plan import CASE
from metarule.sweeps.rows import write_whole
from metarule.tasks.scores import DIVERGED

__all__ = [
    "Report",
    "axis_value",
    "best_member",
    "best_setting",
    "draw_sweep",
    "interquartile",
    "make_report",
    "of_metric",
    "paired",
]
__all__ += ["read_plan", "read_report", "table"]

_FIGURE = "sweep.png"
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
        figure: name of the file of the figure, of several formats the first.
    """

    rows: Rows
    summary: Rows
    score: str
    reference: str
    done: int
    cells: int
    figure: str


def make_report(directory: Path) -> Report:
    """Make the tables and the figure of the finished cells of a sweep, and write them into its directory.

    Raises:
        ConfigError: as of `read_report`.
    """
    plan, report = read_plan(directory), read_report(directory)
    write_whole(directory / "results.csv", csv_text(report.rows))
    write_whole(directory / "summary.csv", csv_text(report.summary))
    with formats(_formats(plan)):
        draw_sweep(directory / _FIGURE, plan, report, run_name(directory))
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
    figure = Path(_FIGURE).with_suffix(f".{_formats(plan)[0]}").name
    return Report(rows, summary, plan["score"], reference, done, len(plan["cells"]), figure)


def read_plan(directory: Path) -> dict[str, Any]:
    """Read the plan of a sweep: its axes, settings and cells; a directory without one is a ConfigError."""
    plan = read_json(directory / PLAN)
    if plan is None:
        raise ConfigError(f"{directory}: this is no sweep: {PLAN} is missing")
    return dict(plan)


def _formats(plan: Mapping[str, Any]) -> Sequence[str]:
    """Formats of the figure, which are those of the first setting."""
    run = plan["settings"][0].get("experiment", {}).get("run", {})
    return run.get("figure_formats", ("png",))


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


def best_setting(report: Report) -> dict[str, Any]:
    """Row of the setting with the highest held-out score."""
    return max(of_metric(report.summary, report.score), key=lambda row: row["iqm"])


def best_member(directory: Path, report: Report, setting: str = "") -> tuple[str, Path] | None:
    """Find the member with the best score on training tasks, so that its held-out score is not a lucky one.

    Args:
        directory: of the sweep.
        report: of the sweep.
        setting: label of its setting; empty for the best of all.

    Returns:
        (description, its directory); None where that score was not measured, or the cell has no members.
    """
    rows = of_metric(report.rows, f"training_{report.score}")
    rows = [row for row in rows if setting in ("", row["setting"])]
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
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


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
def draw_sweep(plan: Mapping[str, Any], report: Report, name: str) -> Any:
    """Draw the score against the first numeric axis, a line for each value of the others; else a row a setting.

    Args:
        plan: of the sweep, as `Plan.tree` makes it.
        report: of its results.
        name: of the sweep.
    """
    varied = [axis for axis in plan["axes"] if len({_axes(plan, one)[axis] for one in plan["settings"]}) > 1]
    axis = next((axis for axis in varied if _is_numeric(plan, axis)), None)
    others = [name for name in varied if name != axis]
    if axis is None:
        figure, (axes,) = figure_of(1, width=8.0, height=1.5 + 0.4 * len(plan["settings"]))
        _draw_rows(axes, report)
    else:
        lines = len({tuple(row[name] for name in others) for row in report.summary})
        figure, (axes,) = figure_of(1, width=8.0, height=4.0 + 0.2 * lines * (lines > 1))
        _draw_lines(axes, plan, report, axis, others)
    seeds = max((row["seeds"] for row in of_metric(report.summary, report.score)), default=0)
    figure.suptitle("Held-out tasks: each seed (dots), interquartile mean and 95 % interval over seeds")
    draw_caption(figure, f"{name}: {seeds} seeds a setting, {report.done} of {report.cells} cells")
    return figure


def _is_numeric(plan: Mapping[str, Any], axis: str) -> bool:
    values = [setting["values"].get(axis) for setting in plan["settings"]]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _draw_lines(axes: Any, plan: Mapping[str, Any], report: Report, axis: str, others: Sequence[str]) -> None:
    names, summary = plan["names"], of_metric(report.summary, report.score)
    lines: dict[tuple[Any, ...], str] = {}
    for values in (tuple(row[name] for name in others) for row in summary):
        parts = (str(value) if name == CASE else f"{names[name]} = {value}" for name, value in zip(others, values))
        lines[values] = ", ".join(parts)
    for values, label in lines.items():
        style = style_of(label, list(lines.values()))
        settings, seeds = (
            [row for row in rows if tuple(row[name] for name in others) == values]
            for rows in (sorted(summary, key=lambda row: row[axis]), of_metric(report.rows, report.score))
        )
        positions = [row[axis] for row in settings]
        low, high = (np.array([row[end] for row in settings], float) for end in ("low", "high"))
        line = axes.plot(positions, [row["iqm"] for row in settings], label=typeset(label), **style)
        band = axes.fill_between(positions, low, high, color=style["color"], alpha=0.15, linewidth=0)
        dots = [row[axis] for row in seeds], [row["value"] for row in seeds]
        mark((*line, band, axes.scatter(*dots, color=style["color"], s=12, alpha=0.6, linewidths=0)), label)
    ticks = sorted({setting["values"][axis] for setting in plan["settings"]})
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= _DECADE:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
    axes.set(xlabel=names[axis], ylabel=score_label(report.score))
    if len(lines) > 1:
        legend_entries(axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16)), list(lines.values()))


def _draw_rows(axes: Any, report: Report) -> None:
    """Draw a row a setting, the best first."""
    summary, rows = (of_metric(rows, report.score) for rows in (report.summary, report.rows))
    settings, best = [row["setting"] for row in summary], sorted(summary, key=lambda row: -row["iqm"])
    for number, row in enumerate(best):
        style = style_of(row["setting"], settings)
        values = [one["value"] for one in rows if one["setting"] == row["setting"]]
        dots = axes.scatter(
            values, np.full(len(values), number + 0.2), color=style["color"], s=12, alpha=0.6, linewidths=0
        )
        middle = axes.plot(row["iqm"], number, color=style["color"], marker=style["marker"], markersize=7)
        interval_line = axes.hlines(
            number, *(np.array(row[end], float) for end in ("low", "high")), color=style["color"]
        )
        mark((dots, *middle, interval_line), row["setting"])
    axes.set_yticks(range(len(best)), [typeset(row["setting"]) for row in best], fontsize="small")
    axes.set(ylim=(max(len(best), 1) - 0.5, -0.5), xlabel=score_label(report.score))
