"""Page about a sweep."""

import json
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
from metarule.rules.terms import typeset
from metarule.runs.files import read_json
from metarule.runs.listing import Row
from metarule.runs.sweep_files import SWEEP_FILE
from metarule.sweeps.report import (
    Report,
    best_member,
    best_setting,
    draw_sweep,
    of_metric,
    read_plan,
    read_report,
)
from metarule.tasks.scores import DIVERGED

__all__ = ["sweep_page"]

# Metrics of a sweep in words, besides names that say all.
_METRICS = {"cross_entropy": "cross-entropy (nats)", "lyapunov_exponent": "Lyapunov exponent (per step)"}
_METRICS |= {
    "meta_loss": "meta-loss at the end",
    "nonfinite_lifetimes": "diverged training lifetimes",
    "finite": "θ finite",
}
_TRAINING = "training_"


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
    shown = best_member(path, report, best_setting(report)["setting"])
    equation = (read_json(shown[1] / "summary.json") or {}).get("equation", "") if shown else ""
    lead = (kinds, *_lead(report))
    if equation and shown:
        lead += (f"The rule of its best seed on training tasks: {typeset(shown[0])}.",)
    caption = f"Held-out {report.score} of each setting: each seed, interquartile mean and 95 % interval"
    drawn = figure("sweep", caption, lambda: draw_sweep.svg(plan, report, name))
    sections = (Section("Scores of all settings", tables=tuple(_tables(report))), _settings(plan), origin)
    return Page(name, state, lead, typeset_equation(equation), drawn, sections)


def _lead(report: Report) -> Iterator[str]:
    """Sentences about the best setting, and its difference from the reference."""
    best, settings = best_setting(report), len(of_metric(report.summary, report.score))
    ends, setting = interval_text(best["low"], best["high"]), typeset(best["setting"])
    mean = f"interquartile mean over {best['seeds']} seeds"
    yield f"Highest held-out {report.score}: {best['iqm']:.4f} [{ends}], {mean}, of the setting {setting}."
    if best["paired"]:
        ends = interval_text(best["difference_low"], best["difference_high"], "+.4f", ", ")
        gain = f"{best['difference']:+.4f} [{ends}]"
        yield f"Its difference from {typeset(report.reference)}, paired over seeds: {gain}."
    if settings > 1:
        yield f"It was chosen on these scores as the best of {settings}, which favours it."


def _tables(report: Report) -> Iterator[Table]:
    """Table of the score, and one of the other metrics."""
    rows = []
    for row in of_metric(report.summary, report.score):
        diverged = [one["value"] for one in of_metric(report.rows, DIVERGED) if one["setting"] == row["setting"]]
        share = float(np.mean(diverged)) if diverged else None
        cells = [Cell(typeset(row["setting"])), cell(row["seeds"]), cell(row["iqm"]), interval_cell(row), cell(share)]
        difference = {"low": row["difference_low"], "high": row["difference_high"]}
        rows.append([*cells, signed(row["difference"]), interval_cell(difference, "+.4f")])
    head = ["setting", "seeds", report.score, "95 % interval", "share diverged"]
    head += [f"difference from {typeset(report.reference)}", "95 % interval of the difference"]
    note = "Interquartile means over seeds, with intervals over seeds; differences are paired over seeds."
    yield table(f"Held-out {report.score}", head, rows, note)
    by_setting: dict[str, dict[str, float]] = {}
    for row in report.summary:
        by_setting.setdefault(row["setting"], {})[row["metric"]] = row["iqm"]
    names = dict.fromkeys(row["metric"] for row in report.summary if row["metric"] != DIVERGED)
    # Without the score, and without others that equal it in all settings.
    metrics = [
        one for one in names if any(values.get(one) != values.get(report.score) for values in by_setting.values())
    ]
    others = [
        [Cell(typeset(name)), *(cell(values.get(one), ".4g") for one in metrics)] for name, values in by_setting.items()
    ]
    yield table("Other metrics, interquartile means over seeds", ("setting", *map(_words, metrics)), others)


def _words(metric: str) -> str:
    """Name of a metric in words."""
    if metric.startswith(_TRAINING):
        return f"{_words(metric.removeprefix(_TRAINING))} on training tasks"
    return _METRICS.get(metric, metric.replace("_", " "))


def _settings(plan: Mapping[str, Any]) -> Section:
    """Section with the values of each setting."""
    rows = [
        [Cell(typeset(one["label"])), *(_value(one["values"].get(axis)) for axis in plan["axes"])]
        for one in plan["settings"]
    ]
    return Section("What was varied", tables=(table("Settings", ("setting", *plan["axes"]), rows),))


def _value(value: Any) -> Cell:
    """Cell of a value of an axis, as in the labels of settings."""
    if value is None or isinstance(value, str):
        return Cell(value or "")
    if isinstance(value, bool | int | float):
        return Cell(f"{value:g}" if isinstance(value, float) else json.dumps(value), float(value))
    return Cell(typeset(json.dumps(value)))
