"""Sections about meta-training: what was learned, and how training went."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from metarule.reports.content import Cell, Details, Figure, Section, Table, cell, figure, interval_cell, signed, table
from metarule.reports.pictures import draw_spread
from metarule.reports.sources import Sources, parameter_names, tasks_text
from metarule.rules.terms import typeset
from metarule.runs import figures
from metarule.runs.results import ENDS
from metarule.runs.validation import report_text

__all__ = ["coefficients_of", "learned_section", "training_section"]

# Points, coefficients in a panel, and panels of the figure of coefficients over meta-steps, at most.
_POINTS, _TERMS, _PANELS = 150, 20, 4


def coefficients_of(described: Mapping[str, Any]) -> dict[str, float]:
    """Named parameters of a summary in one level, without those that are not finite."""
    flat: dict[str, float] = {}
    for name, value in described.items():
        terms = {f"{name}: {term}": one for term, one in value.items()} if isinstance(value, Mapping) else {name: value}
        flat |= {term: float(one) for term, one in terms.items() if one is not None}
    return flat


def learned_section(sources: Sequence[Sources]) -> Section:
    """Section about the learned coefficients of one run, or of several seeds.

    Args:
        sources: files of each seed.
    """
    thetas = [coefficients_of(one.summary.get("theta") or _last_theta(one)) for one in sources]
    names = list(dict.fromkeys(name for theta in thetas for name in theta))
    values = {name: [theta[name] for theta in thetas if name in theta] for name in names}
    caption = "Coefficients: the largest first"
    caption += f"; dots are {len(thetas)} seeds, with their mean and its 95 % interval" if len(thetas) > 1 else ""
    drawn = figure("spread", caption, lambda: draw_spread.svg(values))
    contributions = _contributions(sources[0].summary) if len(thetas) == 1 else None
    tables = (contributions,) if contributions else ()
    is_listed = contributions is not None and len(contributions.rows) == len(values)
    details = (Details("All coefficients", table=_seeds_table(values)),) if values and not is_listed else ()
    return Section("What was learned", (), (*drawn, *_course(sources)), tables, details=details)


def _last_theta(sources: Sources) -> dict[str, float]:
    """θ of the last meta-step of a run that is not finished."""
    names = parameter_names(sources)
    return dict(zip(names, sources.rows[-1]["theta"], strict=True)) if names else {}


def _seeds_table(values: Mapping[str, Sequence[float]]) -> Table:
    head = ["coefficient", "value"]
    rows = [[Cell(typeset(name)), cell(float(np.mean(seeds)), ".4g")] for name, seeds in values.items()]
    if max(map(len, values.values())) > 1:
        head = ["coefficient", "mean", "standard deviation over seeds", "smallest", "largest", "seeds with its sign"]
        rows = []
        for name, seeds in values.items():
            mean, spread = float(np.mean(seeds)), float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
            agree = f"{sum(value * mean > 0 for value in seeds)} of {len(seeds)}"
            numbers = (cell(one, ".4g") for one in (mean, spread, min(seeds), max(seeds)))
            rows.append([Cell(typeset(name)), *numbers, Cell(agree)])
    return table("Coefficients (Δw per unit of the term; decays per step)", head, rows)


def _contributions(summary: Mapping[str, Any]) -> Table | None:
    report = summary.get("contributions")
    if not report or not report.get("terms"):
        return None
    rows = [
        [
            Cell(typeset(row["term"])),
            cell(row["coefficient"], ".4g"),
            cell(row["without"]["mean"]),
            signed(row["difference"]["mean"]),
            interval_cell(row["difference"], "+.4f"),
            cell(row["cumulative"]["mean"]),
        ]
        for row in report["terms"]
    ]
    head = ("term", "coefficient", f"{report['metric']} without it", "full rule − without", "95 % interval")
    caption = f"What each term contributes on {report['of']}, {report['lifetimes']:,} lifetimes"
    note = "Cumulative: the rule of this term and those above it. Intervals are not corrected for the number of terms: "
    note += "about one in twenty misses its difference by chance."
    if report["lifetimes"] != summary.get("held_out", {}).get("lifetimes"):
        note += " These are other lifetimes than those of the scores on new tasks, so that the full rule may differ."
    return table(caption, (*head, "cumulative"), rows, note)


def _course(sources: Sequence[Sources]) -> tuple[Figure, ...]:
    """Coefficients over meta-steps of one seed."""
    one, names = sources[0], parameter_names(sources[0])
    if len(sources) > 1 or not names:
        return ()
    rows = [one.rows[number] for number in np.unique(np.linspace(0, len(one.rows) - 1, _POINTS).astype(int))]
    panels: dict[str, list[int]] = {}
    for number in sorted(range(len(names)), key=lambda number: -abs(rows[-1]["theta"][number] or 0.0)):
        panels.setdefault(names[number].rpartition(": ")[0], []).append(number)
    shown = [number for numbers in list(panels.values())[:_PANELS] for number in numbers[:_TERMS]]
    some = [{"step": row["step"], "theta": [row["theta"][number] for number in shown]} for row in rows]
    chosen, run = [names[number] for number in shown], figures.run_name(one.path)
    return figure("course", "Coefficients over meta-steps", lambda: figures.draw_coefficients.svg(chosen, some, run))


def _training_figure(one: Sources, of: str) -> tuple[Figure, ...]:
    """Figure of the meta-loss, monitored scores and Lyapunov exponents."""
    text = "Meta-loss on training tasks, with what was monitored on the way"
    held_out = {"metric": one.metric, "of": ""} | one.summary.get("held_out", {})
    if any(row.get("held_out") for row in one.rows):
        held_out["of"] = tasks_text(one)
    return figure(
        "training", text + of, lambda: figures.draw_meta_loss.svg(one.rows, held_out, figures.run_name(one.path))
    )


def training_section(sources: Sequence[Sources]) -> Section:
    """Section about the course of meta-training of one run, or of several seeds."""
    first = sources[0]
    of = f" (seed {first.tree['seed']})" if len(sources) > 1 else ""
    reported = first.summary.get("reported")
    text = (report_text(reported),) if reported and len(sources) == 1 else ()
    rows = [_training_row(one) for one in sources]
    head = ["seed", "meta-steps", "meta-loss, first", "last", "rejected steps", "lifetimes not finite"]
    head += ["without a gradient", "Lyapunov exponent at the end, median", "largest", "seconds"]
    tables = (table("Meta-training", head, rows, " ".join(_notes(sources))),)
    return Section("How training went", text, _training_figure(first, of), tables)


def _notes(sources: Sequence[Sources]) -> Iterator[str]:
    """Sentences about the columns of the table that have numbers."""
    rows = [row for one in sources for row in one.rows]
    counts = {min(len(one.rows), ENDS) if "meta_loss" in one.summary else 1 for one in sources}
    if rows and counts == {ENDS}:
        yield f"First and last: means of {ENDS} meta-steps."
    if any(row.get("rejected") for row in rows):
        yield "Rejected: meta-steps that were undone: they made the meta-loss worse, or left few usable lifetimes."
    if any(row.get("zero_gradient_lifetimes") for row in rows):
        yield "Without a gradient: lifetimes whose loss does not depend on θ."
    if any(row.get("lyapunov_exponent") for row in rows):
        yield "Lyapunov exponents are per step; above 0 perturbations grow."
    if any(row.get("held_out") for row in rows) and any("held_out" in one.summary for one in sources):
        yield "Monitored scores are of other lifetimes than the final ones, from which they differ by chance."


def _training_row(one: Sources) -> list[Cell]:
    summary, rows = one.summary, one.rows
    losses, exponent = summary.get("meta_loss") or {}, _last(rows, "lyapunov_exponent")
    counts = [summary.get("rejected_steps"), summary.get("nonfinite_lifetimes"), summary.get("zero_gradient_lifetimes")]
    if "meta_loss" not in summary and rows:
        names = ("rejected", "nonfinite_lifetimes", "zero_gradient_lifetimes")
        counts = [int(sum(row.get(name) or 0 for row in rows)) for name in names]
        ends = [row["loss"] for row in (*rows[:1], *rows[-1:]) if row.get("loss") is not None]
        losses = {"first": ends[0], "last": ends[-1]} if ends else {}
    steps = rows[-1]["step"] if rows else summary.get("steps")
    numbers = [cell(losses.get("first")), cell(losses.get("last")), *map(cell, counts)]
    numbers += [cell(exponent.get("median"), ".3g"), cell(exponent.get("largest"), ".3g")]
    return [cell(one.tree["seed"]), cell(steps), *numbers, cell(summary.get("seconds", {}).get("total"), ".1f")]


def _last(rows: Sequence[Mapping[str, Any]], field: str) -> Mapping[str, Any]:
    return next((row[field] for row in reversed(rows) if row.get(field)), {})
