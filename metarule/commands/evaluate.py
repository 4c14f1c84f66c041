"""Evaluate a learned rule on new tasks: `metarule evaluate RUN_DIR [--TABLE.FIELD VALUE …]`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarule.analysis.comparison import (
    by_task,
    compare,
    count_text,
    evaluation_steps,
    held_out_report,
    held_out_table,
    shot_points,
)
from metarule.analysis.evaluation import Curves
from metarule.analysis.statistics import threshold_point
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Recorded
from metarule.recordings.family import Recordings
from metarule.reports.page import print_report
from metarule.runs import figures
from metarule.runs.directory import EVALUATIONS, FIGURES
from metarule.runs.experiment import FREE_TABLES, Experiment
from metarule.runs.files import csv_text, plain, write_json, write_text
from metarule.runs.inference import evaluate_animals
from metarule.runs.inference_tables import evaluation_table
from metarule.runs.phenomena import measure_phenomena, phenomena_table
from metarule.runs.results import write_curves
from metarule.runs.transfer import EvaluationOptions, Transfer, contenders, new_folder, open_run, parse_transfer
from metarule.tasks.base import primary_metric, round_steps
from metarule.tasks.conditioning import Conditioning

__all__ = ["FIELDS", "USAGE", "main"]

FIELDS = (Source(EvaluationOptions), Source(Experiment, only=FREE_TABLES))
USAGE = """\
usage: metarule evaluate RUN_DIR [--OPTION VALUE ...] [--TABLE.FIELD VALUE ...]

Evaluate the rule of a finished run, θ frozen, on its held-out tasks or on others, such as --tasks.kind points or
--tasks.dataset iris. The initial rule and the tuned baselines are evaluated on the same tasks, orders and initial
weights. Results, by task and in the mean: score against steps, steps to threshold and, for classification, the score
after 1, 3 and 5 examples of each class.

  RUN_DIR                directory of a run of one seed, or of a member of a sweep
  --TABLE.FIELD VALUE    set a field of the config, otherwise as in the run; output neurons follow the tasks
  --help [TABLE]         this text, or the fields of a table
"""


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule evaluate", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with open_run(words[0]) as run:
        transfer = parse_transfer(run, words[1:])
        with new_folder(run.directory / EVALUATIONS, transfer.options.directory) as path:
            status = (_run_on_recordings if isinstance(transfer.experiment.tasks, Recorded) else _run)(transfer, path)
        print_report(run.directory, path)
    return status


def _run_on_recordings(transfer: Transfer, path: Path) -> int:
    run, experiment = transfer.run, transfer.experiment
    is_new = _is_new(run.tasks, experiment.tasks)
    report = evaluate_animals(experiment, run.directory, run.summary["inference"], is_new)
    of = "animals of other files" if is_new else run.summary["inference"]["held_out"]
    write_json(path / "summary.json", transfer.tree() | {"equation": run.equation, "of": of} | report)
    print(f"{run.equation}\n\n{evaluation_table(report, of)}\n\nnumbers: {path / 'summary.json'}")
    return 0


def _is_new(before: Any, now: Any) -> bool:
    """True if animals are others than those of the run; refuses other settings under which the rule was fitted."""
    if not isinstance(before, Recordings):
        raise ConfigError("tasks.kind: this rule was not inferred from recordings; use: metarule infer")
    is_new = bool(now.sha256 != before.sha256)
    for field in ("fitted", "readout", "reward", "reward_decay", *(() if is_new else ("test_animals",))):
        value, allowed = getattr(now, field), getattr(before, field)
        if value != allowed:
            name, was = "fit" if field == "fitted" else field, "the rule was inferred otherwise"
            raise ConfigError(f"tasks.{name} = {plain(value)}: {was}; allowed: {plain(allowed)}")
    return is_new


@figures.drawn_last()
def _run(transfer: Transfer, path: Path) -> int:
    run, experiment, lifetime = transfer.run, transfer.experiment, transfer.experiment.lifetime
    print(f"{transfer.novelty}: {transfer.lifetimes} networks", flush=True)
    compared, left_out = contenders(run, experiment)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", flush=True)
    settings, threshold = experiment.evaluation, transfer.options.threshold
    points = evaluation_steps(lifetime, settings.points, settings.horizons)
    curves = compare(compared, experiment.split.test, transfer.key, transfer.lifetimes, points, transfer.tasks)
    rates = {name: {"learning_rate": rate} for name, rate in run.rates.items() if name in curves and rate}
    held_out = held_out_report(lifetime, curves, rates, transfer.novelty, threshold)
    summary = transfer.tree() | {"equation": run.equation, "held_out": held_out, "left_out": left_out}
    if isinstance(experiment.tasks, Conditioning):
        key = stream(run_key(experiment.seed), Purpose.PHENOMENA)
        summary["phenomena"] = measure_phenomena(compared, key, settings.lifetimes, path / FIGURES)
    score, rows = primary_metric(lifetime.tasks), list(_rows(curves, lifetime, threshold))
    write_text(path / "tasks.csv", csv_text(rows))
    finals = {name: [row[score] for row in rows if row["contender"] == name] for name in curves}
    name = figures.run_name(run.directory)
    write_curves(path, curves, lifetime, held_out, name)
    networks = f"{name}: mean over the {count_text(transfer.options.networks, 'networks')} or more on each task"
    figures.draw_tasks(path / FIGURES / "tasks.png", finals, score, transfer.novelty, threshold, networks)
    write_json(path / "summary.json", summary)
    print(f"\n{held_out_table(held_out)}\n")
    if "phenomena" in summary:
        print(f"{phenomena_table(summary['phenomena'])}\n")
    print(f"figures: {path / FIGURES}   numbers: {path / 'summary.json'}, tasks.csv")
    return 0


def _rows(curves: Mapping[str, Curves], lifetime: Lifetime, threshold: float) -> Iterator[dict[str, Any]]:
    """One row a contender and task: means over its networks, and steps to threshold."""
    score, length = primary_metric(lifetime.tasks), lifetime.steps
    for name, curve in curves.items():
        steps = [step for step in curve.steps.tolist() if step <= length]
        shots = shot_points(steps, round_steps(lifetime.tasks))
        for task, line in zip(np.unique(curve.task).tolist(), by_task(curve, score, balanced=False), strict=True):
            means = {score: line[len(steps) - 1], "initial": line[0]}
            means |= {f"{shot}_each": line[point] for shot, point in shots.items()}
            row = {"contender": name, "task": task}
            row |= {"steps_to_threshold": threshold_point(line[: len(steps)], steps, threshold)}
            yield row | {metric: float(f"{value:.6g}") for metric, value in means.items()}
