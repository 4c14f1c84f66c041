"""Sections about evaluations of a finished run, with the scores of all tasks."""

import csv
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from metarule.config.toml import read_bytes
from metarule.reports.content import Details, Section, cell, figure, table
from metarule.reports.held_out import score_tables, verdict
from metarule.runs import figures
from metarule.runs.directory import EVALUATIONS
from metarule.runs.files import LARGEST, read_json

__all__ = ["evaluation_sections"]

# Evaluations, the last ones, and tasks in a table, at most.
_LAST, _TASKS = 3, 200


def evaluation_sections(path: Path) -> Iterator[Section]:
    """Section of each of the last evaluations in the directory of a run."""
    for number, file in enumerate(sorted(path.glob(f"{EVALUATIONS}/*/summary.json"))[-_LAST:]):
        if report := (read_json(file) or {}).get("held_out"):
            yield _section(file.parent, report, number)


def _section(folder: Path, report: Mapping[str, Any], number: int) -> Section:
    metric, finals = report["metric"], _final_scores(folder / "tasks.csv", report["metric"])
    caption = f"{metric} of each task, sorted"
    of, threshold = report["of"], report["threshold"]
    draw = partial(figures.draw_tasks.svg, _by_name(finals), metric, of, threshold)
    drawn = figure(f"tasks-{number}", caption, draw) if finals else ()
    tasks = sorted({task for scores in finals.values() for task in scores}, key=lambda task: (len(task), task))
    rows = [
        [cell(int(task) if task.isdigit() else task), *(cell(scores.get(task)) for scores in finals.values())]
        for task in tasks[:_TASKS]
    ]
    note = "" if len(tasks) <= _TASKS else f"The first {_TASKS} of {len(tasks)} tasks; all are in tasks.csv."
    by_task = table(f"{metric} of each task", ("task", *finals), rows, note)
    details = (Details("Scores of each task", table=by_task),) if rows else ()
    return Section(f"Evaluation {folder.name}", verdict(report), drawn, score_tables(report), details=details)


def _by_name(finals: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    return {name: list(scores.values()) for name, scores in finals.items()}


def _final_scores(file: Path, metric: str) -> dict[str, dict[str, float]]:
    """Final scores of a file of tasks, by contender and task."""
    finals: dict[str, dict[str, float]] = {}
    lines = read_bytes(file, LARGEST).decode().splitlines() if file.exists() else []
    for row in csv.DictReader(lines):
        finals.setdefault(row["contender"], {})[row["task"]] = float(row[metric])
    return finals
