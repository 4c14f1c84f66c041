"""Sections about a rule that was inferred from recordings."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metarule.analysis.comparison import count_text
from metarule.reports.content import Cell, Details, Figure, Section, Table, cell, figure, interval_cell, signed, table
from metarule.reports.mathml import typeset_equation
from metarule.reports.stored import stored_figure
from metarule.rules.terms import typeset
from metarule.runs import figures
from metarule.runs.inference_tables import LOOSE, largest_first, likeliest_first

__all__ = ["inference_figure", "inference_lead", "inference_sections"]

_INTERVALS = {"bootstrap": "bootstrap interval", "profile": "profile interval"}
# Explained share below which it is written in powers of ten, and above which no noise is seen.
_FAR_BELOW, _NOISELESS = -1000.0, 1 - 1e-6
# Loose directions that are shown at first.
_DIRECTIONS = 3
_VERDICTS = {"identified": "Identified", "partly": "Partly identified", "not identified": "Not identified"}


def inference_lead(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about an inferred rule: how well it predicts, against which models, and whether it is identified."""
    shares = [f"R² of {name} {value:.4f}" for name, value in (report.get("r2") or {}).items() if value is not None]
    if report.get("deviance_explained") is not None:
        shares.append(f"{report['deviance_explained']:.1%} of the deviance of choices".replace("%", " %"))
    animals = report["animals"]
    of = f"{count_text(animals['fitted'], 'animals')} fitted, {animals['held_out']} held out"
    terms = (
        f"{len(report['selected'])} of {count_text(report['terms'], 'terms')} selected; " if report["selected"] else ""
    )
    lines = [f"{terms}{of}. On {report['held_out']}: {', '.join(shares) or 'no share is explained'}."]
    return (*lines, *_against(report["models"]), *_identified(report.get("identified")), *report["warnings"])


def inference_figure(report: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Figure of the inferred coefficients."""
    caption = "Coefficients with their 95 % intervals, selected ones first"
    return figure("coefficients", caption, lambda: figures.draw_inferred_coefficients.svg(report))


def inference_sections(path: Path, report: Mapping[str, Any]) -> tuple[Section, ...]:
    """Sections: tables of coefficients, models, identifiability, recovery and predictions.

    Args:
        path: directory of the run.
        report: the part `inference` of a summary.
    """
    return tuple(_sections(path, report))


def _sections(path: Path, report: Mapping[str, Any]) -> Iterator[Section]:
    readback = report.get("readback")
    read = (f"Read back as a polynomial, R² {readback['r2']:.4f}:",) if readback else ()
    equations = typeset_equation(readback["equation"]) if readback else ()
    tables = filter(None, (_coefficients(report), _selection(report), _recovery(report.get("recovery"))))
    yield Section("What was inferred", read, (), tuple(tables), equations=equations)
    models = figure("models", "Inferred rule against each model", lambda: figures.draw_models.svg(report))
    yield Section("What was compared", (), models, (_models(report),))
    if identified := report.get("identified"):
        caption = "Standard deviation of each eigendirection of θ, in units of the scale"
        spectrum = figure("spectrum", caption, lambda: figures.draw_spectrum.svg(report))
        loose = [textwrap.shorten(typeset(one), 200, placeholder=" …") for one in identified["loose"]]
        text = ("A high R² does not show that the rule is right.",) if identified["verdict"] != "identified" else ()
        rows = [[Cell(one)] for one in loose]
        head = ("direction along which θ may move and fit the recordings nearly as well",)
        shown = (table("Loose directions", head, rows[:_DIRECTIONS]),) if rows else ()
        more = (
            Details(
                f"{len(rows) - _DIRECTIONS} more loose directions", table=table("Others", head, rows[_DIRECTIONS:])
            ),
        )
        yield Section("Is it identified", text, spectrum, shown, details=more if len(rows) > _DIRECTIONS else ())
    fits = [*stored_figure(path, "trajectories", "trajectories", "Observed, and simulated with the inferred rule")]
    caption = "Standardised residuals beside N(0, 1)"
    if noiseless := [kind for kind, r2 in (report.get("r2") or {}).items() if r2 is not None and r2 > _NOISELESS]:
        caption += (
            f"; {' and '.join(noiseless)} has no noise, so that its residuals are of rounding and need not be normal"
        )
    fits += stored_figure(path, "residuals", "residuals", caption)
    if fits:
        yield Section("How well it fits", (), tuple(fits), (_observed(report),))


def _against(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    others = {name: row["difference"] for name, row in models.items() if row.get("difference")}
    known = {name: row for name, row in others.items() if row["mean"] is not None}
    if known:
        best = min(known, key=lambda name: known[name]["mean"])
        ends = interval_cell(known[best], "+.2f").text
        between = f", 95 % interval {ends}" if ends != "–" else ""
        gain = f"{known[best]['mean']:+.2f} nats an animal{between}"
        yield f"Closest of {count_text(len(known), 'other models')}: {best}; inferred − {best} = {gain}, paired."


def _identified(identified: Mapping[str, Any] | None) -> Iterator[str]:
    if identified:
        counts = f"{identified['directions']} of {identified['of']} directions of θ"
        yield f"{_VERDICTS[identified['verdict']]}: {counts} are determined to {LOOSE:g} of their scale."


def _coefficients(report: Mapping[str, Any]) -> Table | None:
    rows, selected = report["coefficients"], set(report["selected"])
    if not rows:
        return None
    body = []
    for term in largest_first(report):
        row = rows[term]
        others = (_pair(row.get(name)) for name in _INTERVALS)
        inside = None if None in (row["low"], row["high"]) else bool(row["low"] <= 0 <= row["high"])
        side = Cell("–") if inside is None else Cell("inside" if inside else "outside")
        chosen = Cell("yes" if term in selected else "no") if selected else Cell("")
        body.append(
            [Cell(typeset(term)), cell(row["estimate"], ".4g"), interval_cell(row, ".4g"), *others, side, chosen]
        )
    head = ("coefficient", "estimate", "95 % interval", *_INTERVALS.values(), "0 is", "selected")
    return table("Coefficients (Δw per unit of the term)", head, body, "95 % intervals by Laplace's approximation.")


def _pair(ends: Any) -> Cell:
    return interval_cell(dict(zip(("low", "high"), ends, strict=True)), ".4g") if ends else Cell("")


def _selection(report: Mapping[str, Any]) -> Table | None:
    rows = [
        [
            Cell(f"{one['step']} {typeset(one['term'])}"),
            cell(one["log_likelihood"], ".1f"),
            cell(one["held_out"], ".1f"),
        ]
        for one in report["selection"]
    ]
    head = ("step", "log-likelihood, fitted (nats)", "held out (nats)")
    return table("Selection of terms", head, rows) if rows else None


def _recovery(recovery: Mapping[str, Any] | None) -> Table | None:
    if not recovery:
        return None
    title = f"Recovery in {count_text(recovery['repetitions'], 'simulations')} with the estimate, refitted"
    rows = [
        [Cell(typeset(term)), signed(row["bias"], "+.2g"), cell(row["coverage"], ".0%")]
        for term, row in recovery["terms"].items()
    ]
    note = "" if recovery["coverage"] is None else f"In all, 95 % intervals contain {recovery['coverage']:.1%}."
    return table(title, ("coefficient", "bias", "coverage"), rows, note.replace("%.", " %."))


def _models(report: Mapping[str, Any]) -> Table:
    rows = []
    for name, row in likeliest_first(report["models"]).items():
        difference, r2 = row.get("difference") or {}, row.get("r2") or {}
        cells = [Cell(name), cell(row["parameters"]), cell(row["log_likelihood"], ".1f")]
        cells += [signed(difference.get("mean"), "+.2f"), interval_cell(difference, "+.2f")]
        cells += [cell(row.get("aic"), ".1f"), cell(row.get("bic"), ".1f")]
        rows.append(
            [*cells, *(_share(r2.get(what)) for what in ("activity", "weights")), _share(row.get("deviance_explained"))]
        )
    head = ("model", "parameters", "log-likelihood (nats)", "inferred − model (nats an animal)", "95 % interval")
    note = "Above 0 the inferred rule is better."
    if not report["animals"]["held_out"]:
        note += " No animal was held out, which favours models with more parameters."
    shares = ("AIC", "BIC", "R² of activity", "R² of weights", "share of deviance")
    return table(f"Models on {report['held_out']}", (*head, *shares), rows, note)


def _share(value: float | None) -> Cell:
    """Cell of an explained share; networks that diverge may explain any number below 0."""
    return cell(value, ".4f" if value is None or value > _FAR_BELOW else ".1e")


def _observed(report: Mapping[str, Any]) -> Table:
    noise = report.get("noise") or {}
    rows = [
        [Cell(kind), cell(count), cell(noise.get(kind), ".3g")]
        for kind, count in report["observations"].items()
        if count
    ]
    note = f"Initial weights: {report['initial_weights']}."
    return table("Recordings", ("observed", "values", "standard deviation of the noise"), rows, note)
