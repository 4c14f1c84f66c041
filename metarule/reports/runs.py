"""Pages about a run, the runs of several seeds, and a structure search."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from markupsafe import Markup

from metarule.analysis.comparison import LEARNED, threshold_of
from metarule.analysis.statistics import confidence_band
from metarule.config.imports import import_words
from metarule.config.toml import ConfigError
from metarule.reports.content import Cell, Figure, Page, Section, Table, cell, figure, interval_cell, table
from metarule.reports.evaluations import evaluation_sections
from metarule.reports.explanation import explanation_section
from metarule.reports.held_out import lifetime_steps, score_tables, tuning_table, verdict
from metarule.reports.inference import inference_figure, inference_lead, inference_sections
from metarule.reports.mathml import typeset_equation
from metarule.reports.phenomena import phenomena_section
from metarule.reports.provenance import provenance
from metarule.reports.sources import Sources, last_equation, read_sources, tasks_text
from metarule.reports.training import learned_section, training_section
from metarule.rules.terms import typeset
from metarule.runs import figures
from metarule.runs.directory import seed_directory
from metarule.runs.files import read_json
from metarule.runs.listing import Row

__all__ = ["run_page", "search_page", "seeds_page"]

_FILES = ("config.toml", "resolved.toml")


def run_page(path: Path, row: Row) -> Page:
    """Page about a run of one seed, finished or not.

    Args:
        path: its directory.
        row: its row in a listing.
    """
    one = read_sources(path)
    summary = one.summary
    report = summary.get("inference")
    held_out = summary.get("held_out")
    if report:
        lead, first, sections = inference_lead(report), inference_figure(report), inference_sections(path, report)
    else:
        lead = verdict(held_out) if held_out else _unfinished(one, row)
        first = _performance([one], held_out) if held_out else ()
        sections = (learned_section([one]), *explanation_section(path))
        sections += tuple(_scores([held_out] if held_out else [], held_out))
        sections += tuple(evaluation_sections(path))
        sections += tuple(phenomena_section(path, summary["phenomena"]) if "phenomena" in summary else ())
    sections = (*sections[:1], training_section([one]), *sections[1:])
    sections += (provenance(path, [one.tree["seed"]], _FILES, _commands(path, row)),)
    equation = summary.get("equation") or one.theta.get("equation") or (last_equation(one) if one.rows else "")
    return Page(_name(path, row), _state(row), (_kinds(row), *lead), typeset_equation(equation), first, sections)


def seeds_page(path: Path, row: Row) -> Page:
    """Page about the runs of several seeds, of which some may not be finished."""
    whole = read_sources(path)
    seeds = range(whole.tree["seed"], whole.tree["seed"] + whole.tree["seeds"])
    parts = list[Sources]()
    for seed in seeds:
        with suppress(ConfigError):  # it has not begun
            parts.append(read_sources(seed_directory(path, seed)))
    done, held_out = [one for one in parts if "held_out" in one.summary], whole.summary.get("held_out")
    lead = verdict(held_out) if held_out else (f"{len(done)} of {len(seeds)} seeds are done.",)
    first = (*(_performance(done, held_out) if held_out else ()), *_final_scores(held_out))
    sections = [learned_section(done)] if done else []
    sections += [training_section(parts)] if parts else []
    sections += _scores([one.summary["held_out"] for one in done], held_out)
    if "phenomena" in whole.summary:
        sections += phenomena_section(path, whole.summary["phenomena"])
    sections += [provenance(path, seeds, _FILES, _commands(path, row))]
    equations = list(_equations(done))
    if equations:
        lead = (*lead, f"The rule of seed {done[0].tree['seed']}; those of the others are below.")
        sections.insert(1, Section("The rule of each seed", equations=tuple(equations)))
    first_rule = typeset_equation(done[0].summary["equation"]) if equations else ()
    return Page(_name(path, row), _state(row), (_kinds(row), *lead), first_rule, first, tuple(sections))


def search_page(path: Path, row: Row) -> Page:
    """Page about a structure search."""
    front, tree = read_json(path / "front.json") or {}, read_sources(path).tree
    structures: Sequence[Mapping[str, Any]] = front.get("structures") or ()
    lead = [_kinds(row)]
    drawn: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    if structures:
        best, metric = max(structures, key=lambda one: one["mean"]), front["metric"]
        terms = ", ".join(map(typeset, best["names"]))
        lead.append(f"The best of {front['evaluated']} structures has {metric} {best['mean']:.4f}: {terms}.")
        caption = "Held-out score against the number of terms: mean and 95 % interval over tasks"
        drawn = figure("front", caption, lambda: figures.draw_front.svg(front))
        rows = [
            [cell(one["terms"]), cell(one["mean"]), interval_cell(one), Cell(", ".join(map(typeset, one["names"])))]
            for one in structures
        ]
        tables = (table("Best structure of each size", ("terms", metric, "95 % interval", "structure"), rows),)
    sections = (Section("What was found", (), (), tables), provenance(path, [tree["seed"]], _FILES))
    return Page(_name(path, row), _state(row), tuple(lead), (), drawn, sections)


def _name(path: Path, row: Row) -> str:
    place = path.resolve()
    name = f"{place.parent.name}/{place.name}" if re.fullmatch(r"s\d+", place.name) else place.name
    return f"{row.config} · {name}" if row.config and row.config != name else name


def _state(row: Row) -> str:
    progress = "" if row.total is None or row.state == "done" else f", {row.done:,} of {row.total:,} {row.unit}"
    return f"{row.state}{progress}"


def _kinds(row: Row) -> str:
    seeds = f"{row.seeds} seeds" if row.seeds and row.seeds > 1 else f"seed {row.seed}"
    total = (row.total or 0) // ((row.seeds or 1) if row.unit == "steps" else 1)
    if row.state != "done":  # the state tells them
        total = 0
    unit, each = "meta-steps" if row.unit == "steps" else row.unit, " each" if row.seeds and row.seeds > 1 else ""
    steps = f", {total:,} {unit}{each}" if total else ""
    return f"Rule: {row.rule}. Circuit: {row.circuit}. Tasks: {row.tasks}. {seeds.capitalize()}{steps}."


def _unfinished(one: Sources, row: Row) -> tuple[str, ...]:
    scored = next((line for line in reversed(one.rows) if line.get("held_out")), None)
    if scored is None:
        return (f"This run is {row.state}; it has no scores yet.",)
    score = scored["held_out"].get(one.metric)
    text = f": {one.metric} {score:.4f}" if isinstance(score, float) else ""
    return (f"This run is {row.state}. Monitored on {tasks_text(one)} at meta-step {scored['step']:,}{text}.",)


def _performance(sources: Sequence[Sources], report: Mapping[str, Any] | None) -> tuple[Figure, ...]:
    """Learning curves: over tasks for one seed, of the means over tasks for several."""
    found = [one.performance for one in sources if one.performance]
    if not found or report is None:
        return ()
    first, over = found[0], "tasks"
    if len(found) > 1:
        over = f"{len(found)} seeds"
        means = {name: [one["contenders"][name]["mean"] for one in found] for name in first["contenders"]}
        bands = {name: confidence_band(np.array(values, float)) for name, values in means.items()}
        first = first | {"contenders": bands}
    caption = (
        f"{first['score']} along lifetimes on {report.get('of', 'held-out tasks')}: mean and 95 % interval over {over}"
    )
    length, threshold = lifetime_steps(first, report), threshold_of(sources[0].summary["held_out"])
    return figure("performance", caption, lambda: figures.draw_performance.svg(first, length, "", "", threshold))


def _final_scores(report: Mapping[str, Any] | None) -> tuple[Figure, ...]:
    if report is None:
        return ()
    caption = (
        f"{report['metric']} at the end of a lifetime: each seed, mean and 95 % interval; right: paired differences"
    )
    return figure("seeds", caption, lambda: figures.draw_seeds.svg(report, ""))


def _scores(reports: Sequence[Mapping[str, Any]], report: Mapping[str, Any] | None) -> Iterator[Section]:
    if report is None or LEARNED not in report or "tasks" not in report:
        return
    yield Section("How it does on new tasks", tables=score_tables(report))
    if tuned := tuning_table(reports):
        text = "Each of these has one or two numbers, tuned on training tasks with the lifetimes of meta-training."
        yield Section("What was compared, and how it was tuned", (text,), tables=(tuned,))


def _equations(sources: Sequence[Sources]) -> Iterator[Markup]:
    """Equations of all seeds, each below its number."""
    for one in sources:
        yield Markup("<h3>Seed {}</h3>").format(one.tree["seed"])
        yield from typeset_equation(one.summary["equation"])


def _commands(path: Path, row: Row) -> tuple[str, ...]:
    """Commands that go on with a run."""
    place, imports = quote(str(path)), import_words()
    if row.state != "done":
        command = "infer" if row.tasks == "recordings" else "train"
        return (f"metarule {command} --resume {place}{imports}", f"metarule report {place} --live")
    first = f"{place}/s{row.seed}" if row.kind == "seeds" else place
    return (f"metarule evaluate {first}{imports}", f"metarule report {place}{imports}")
