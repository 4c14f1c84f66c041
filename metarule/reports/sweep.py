"""Page about a sweep."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from metarule.analysis.statistics import interval_text
from metarule.config.imports import import_words
from metarule.config.toml import ConfigError
from metarule.reports.content import Cell, Page, Section, Table, cell, figure, interval_cell, signed, table
from metarule.reports.mathml import typeset_equation
from metarule.reports.provenance import provenance
from metarule.runs.files import read_json
from metarule.runs.listing import Row
from metarule.runs.sweep_files import SWEEP_FILE
from metarule.sweeps.report import Report, best_member, draw_sweep, of_metric, read_plan, read_report
from metarule.tasks.scores import DIVERGED

__all__ = ["sweep_page"]


def sweep_page(path: Path, row: Row) -> Page:
    """Page about the finished cells of a sweep.

    Args:
        path: its directory.
        row: its row in a listing.
    """
    plan = read_plan(path)
    name, seeds = f"sweep {path.resolve().name}", sorted({seed for one in plan["cells"] for _, seed in one["points"]})
    again = f"metarule sweep --report {quote(str(path))}{import_words()}"
    origin = provenance(path, seeds, (SWEEP_FILE,), (again,))
    state = row.state if row.state == "done" else f"{row.state}, {row.done} of {row.total} cells"
    kinds = f"Rule: {row.rule}. Circuit: {row.circuit}. Tasks: {row.tasks}."
    kinds += f" {len(plan['settings'])} settings, {len(seeds)} seeds, {len(plan['cells'])} cells."
    try:
        report = read_report(path)
    except ConfigError:  # no cell is finished
        return Page(name, state, (kinds, "No cell is finished yet."), (), (), (_settings(plan), origin))
    best = best_member(path, report)
    equation = (read_json(best[1] / "summary.json") or {}).get("equation", "") if best else ""
    lead = (kinds, *_lead(report), *((f"Best on training tasks: {best[0]}; its rule:",) if best else ()))
    caption = f"Held-out {report.score} of each setting: each seed, interquartile mean and 95 % interval"
    drawn = figure("sweep", caption, lambda: draw_sweep.svg(plan, report, name))
    sections = (Section("Scores of all settings", tables=tuple(_tables(report))), _settings(plan), origin)
    return Page(name, state, lead, typeset_equation(equation), drawn, sections)


def _lead(report: Report) -> Iterator[str]:
    """Sentences about the best setting, and its difference from the reference."""
    rows = of_metric(report.summary, report.score)
    best = max(rows, key=lambda row: row["iqm"])
    ends = interval_text(best["low"], best["high"])
    yield f"Highest held-out {report.score}: {best['iqm']:.4f} [{ends}], setting {best['setting']}."
    if best["paired"]:
        ends = interval_text(best["difference_low"], best["difference_high"], "+.4f", ", ")
        gain = f"{best['difference']:+.4f} [{ends}]"
        yield f"Its difference from {report.reference}, paired over seeds: {gain}."
        yield f"It was chosen on these scores as the best of {len(rows)}, which favours it."


def _tables(report: Report) -> Iterator[Table]:
    """Table of the score, and one of the other metrics."""
    rows = []
    for row in of_metric(report.summary, report.score):
        diverged = [one["value"] for one in of_metric(report.rows, DIVERGED) if one["setting"] == row["setting"]]
        share = float(np.mean(diverged)) if diverged else None
        cells = [Cell(row["setting"]), cell(row["seeds"]), cell(row["iqm"]), interval_cell(row), cell(share)]
        difference = {"low": row["difference_low"], "high": row["difference_high"]}
        rows.append([*cells, signed(row["difference"]), interval_cell(difference, "+.4f")])
    head = ("setting", "seeds", report.score, "95 % interval", "share diverged", f"difference from {report.reference}")
    note = "Interquartile means over seeds, with intervals over seeds; differences are paired over seeds."
    yield table(f"Held-out {report.score}", (*head, "95 % interval of the difference"), rows, note)
    metrics = [name for name in dict.fromkeys(row["metric"] for row in report.summary) if name != report.score]
    by_setting: dict[str, dict[str, float]] = {}
    for row in report.summary:
        by_setting.setdefault(row["setting"], {})[row["metric"]] = row["iqm"]
    others = [[Cell(name), *(cell(values.get(one), ".4g") for one in metrics)] for name, values in by_setting.items()]
    yield table("Other metrics, interquartile means over seeds", ("setting", *metrics), others)


def _settings(plan: Mapping[str, Any]) -> Section:
    """Section with the values of each setting."""
    rows = [
        [
            Cell(one["label"]),
            *(Cell("" if (value := one["values"].get(axis)) is None else str(value)) for axis in plan["axes"]),
        ]
        for one in plan["settings"]
    ]
    return Section("What was varied", tables=(table("Settings", ("setting", *plan["axes"]), rows),))
