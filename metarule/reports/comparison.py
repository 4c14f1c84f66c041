"""Page about the comparison of several runs."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import join
from typing import Any

from metarule.analysis.comparison import THRESHOLD, count_text, threshold_of
from metarule.parallel.devices import spread
from metarule.reports.content import Cell, Page, Section, cell, figure, gain_text, interval_cell, signed, table
from metarule.reports.mathml import typeset_equation
from metarule.reports.pictures import draw_spread
from metarule.runs import figures
from metarule.runs.differences import (
    Measured,
    common_points,
    compared_row,
    measure,
    open_runs,
    performance_of,
    tasks_text,
)
from metarule.runs.theta_files import flat_parameters
from metarule.tasks.base import primary_metric

__all__ = ["comparison_page"]


def comparison_page(words: Sequence[str]) -> Page:
    """Page about several finished runs, each evaluated again on its held-out tasks.

    Args:
        words: their directories.

    Raises:
        ConfigError: as of `open_runs`.
    """
    compared = open_runs(words)
    with spread():
        measured = measure(compared, common_points(compared))
    rows = {one.compared.name: compared_row(measured[0], one, THRESHOLD) for one in measured}
    metric, of = primary_metric(compared[0].runs[0].tasks), tasks_text(compared)
    performance, over = performance_of(measured), " or ".join(sorted({row["over"] for row in rows.values()}))
    caption = f"{metric} along lifetimes on {of}: mean and 95 % interval over {over}"
    length = max(one.length for one in measured)
    threshold = threshold_of({"contenders": rows, "threshold": THRESHOLD})
    drawn = figure("performance", caption, lambda: figures.draw_performance.svg(performance, length, "", "", threshold))
    scores = Section("Scores and paired differences", tables=(_table(rows, metric, threshold),))
    command = f"metarule compare {join(words)}"
    parts = (_run_section(number, one) for number, one in enumerate(measured))
    sections = (scores, *parts, Section("How to repeat it", commands=(command,)))
    title = "Comparison of " + ", ".join(rows)
    return Page(title, f"{len(rows)} runs", tuple(_lead(rows, metric, of)), (), drawn, sections)


def _lead(rows: Mapping[str, Mapping[str, Any]], metric: str, of: str) -> Iterator[str]:
    best = max(rows, key=lambda name: rows[name]["mean"])
    yield f"Highest {metric} on {of}: {rows[best]['mean']:.4f}, {best}."
    first = next(iter(rows))
    for name, row in rows.items():
        if "difference" in row:
            yield f"{first} − {name} = {gain_text(row['difference'])} over {row['pairs']} {row['over']}."
        elif "unpaired" in row:
            yield f"No difference of {first} and {name}: {row['unpaired']}."


def _table(rows: Mapping[str, Mapping[str, Any]], metric: str, threshold: float | None) -> Any:
    multiples = list(dict.fromkeys(multiple for row in rows.values() for multiple in row["horizon"] if multiple != "1"))
    body = []
    for name, row in rows.items():
        difference = row.get("difference", {})
        at = row["steps_to_threshold"]["at"]
        cells = [Cell(name), cell(row["seeds"]), cell(row["count"]), cell(row["mean"]), interval_cell(row)]
        cells += [signed(difference.get("mean")), interval_cell(difference, "+.4f"), cell(row.get("pairs"))]
        cells += [cell(row["diverged"]), Cell("never" if threshold else "", float("inf")) if at is None else cell(at)]
        body.append([*cells, *(cell(row["horizon"].get(multiple, {}).get("mean")) for multiple in multiples)])
    head = [
        "run",
        "seeds",
        "tasks or seeds",
        metric,
        "95 % interval",
        "first − other",
        "95 % interval of the difference",
    ]
    head += ["pairs", "diverged", f"steps to {THRESHOLD:g}", *(f"after {multiple} lifetimes" for multiple in multiples)]
    return table(f"{metric} at the end of a lifetime", head, body, "Differences are paired over tasks, or over seeds.")


def _run_section(number: int, one: Measured) -> Section:
    """Section with the rule of a run, or those of its seeds, and its coefficients."""
    equations = [equation for run in one.compared.runs for equation in typeset_equation(run.equation)]
    experiment = one.compared.runs[0].config
    kinds = (type(part).__name__ for part in (experiment.rule, experiment.lifetime.circuit, experiment.tasks))
    length = f"{count_text(len(one.compared.runs), 'seeds')}, lifetimes of {one.length} steps"
    text = f"{one.compared.directory}: {', '.join(kinds)}. {length}."
    thetas = [flat_parameters(run.learner, run.theta) for run in one.compared.runs]
    values = {name: [float(theta[name]) for theta in thetas] for name in thetas[0]}
    drawn = figure(f"spread-{number}", "Coefficients: the largest first", lambda: draw_spread.svg(values))
    return Section(one.compared.name, (text,), drawn, equations=tuple(equations))
