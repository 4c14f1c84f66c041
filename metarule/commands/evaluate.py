"""Try a learned rule on new tasks: `python -m metarule.evaluate RUN_DIR [--section.field VALUE …]`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarule.analysis.comparison import (
    Contender,
    by_task,
    compare,
    evaluation_steps,
    held_out_report,
    held_out_table,
    shot_points,
)
from metarule.analysis.evaluation import Curves
from metarule.analysis.statistics import threshold_point
from metarule.commands import cli
from metarule.config.help import Source
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.runs import artifacts, figures
from metarule.runs.experiment import FREE_TABLES, Experiment
from metarule.runs.finished import EvaluationOptions, Trial, contenders, describe_novelty, new_place, opened, read_trial
from metarule.runs.phenomena import draw_report, measure_phenomena, phenomena_table
from metarule.runs.results import write_curves
from metarule.tasks.base import primary_metric, round_steps
from metarule.tasks.conditioning import Conditioning

__all__ = ["FIELDS", "USAGE", "main"]

FIELDS = (Source(EvaluationOptions), Source(Experiment, only=FREE_TABLES))
USAGE = """\
usage: metarule evaluate RUN_DIR [--OPTION VALUE ...] [--TABLE.FIELD VALUE ...]

Try the rule that a finished run has learned on new tasks, with θ as it is: those that the run held out, or others, such
as --tasks.kind points, or --tasks.dataset iris. Fresh networks live through each task; beside them live the initial
rule, and the baselines at the rates at which the run had tuned them. Out come the score against steps, the
steps needed to reach a score, and the score on examples that were not presented, for each task and in the mean.

  RUN_DIR                directory of a run of one seed
  --TABLE.FIELD VALUE    set a field of the config, otherwise as in the run; output neurons follow the tasks
  --help [TABLE]         this text, or the fields of a table
"""
_BY_TASK = "tasks.csv"


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a device or disk failed or a figure could not be drawn, 2 bad input, 128 +
        signal if stopped.
    """
    return cli.run("metarule.evaluate", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with opened(words[0]) as run:
        trial = read_trial(run, words[1:])
        with new_place(run, artifacts.EVALUATIONS, trial.look.directory) as path:
            return _run(trial, path)


@figures.drawn_last()
def _run(trial: Trial, path: Path) -> int:
    run, experiment, _, _, _ = trial
    print(f"{describe_novelty(run, experiment)}: {trial.lifetimes} networks", flush=True)
    met, left_out = contenders(run, experiment)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", flush=True)
    seen = _live(trial, met)
    found = _judge(trial, seen) | {"left_out": left_out}
    if isinstance(experiment.tasks, Conditioning):
        key, runs = stream(run_key(experiment.seed), Purpose.PHENOMENA), experiment.evaluation.lifetimes
        phenomena = measure_phenomena(met, key, runs)
        found["phenomena"] = phenomena.report
        draw_report(path / artifacts.FIGURES, experiment.lifetime, phenomena)
    _keep(path, trial, found, seen)
    print(f"\n{held_out_table(found['held_out'])}\n")
    if "phenomena" in found:
        print(f"{phenomena_table(found['phenomena'])}\n")
    print(f"figures: {path / artifacts.FIGURES}   numbers: {path / 'summary.json'}, {_BY_TASK}")
    return 0


def _live(trial: Trial, met: Mapping[str, Contender]) -> dict[str, Curves]:
    """Lifetimes on test tasks of the run's own split, whatever the tasks: what was trained on stays out."""
    lifetime, pool = trial.experiment.lifetime, trial.experiment.split.test
    points = evaluation_steps(lifetime, trial.experiment.evaluation.points, trial.experiment.evaluation.horizons)
    return compare(met, pool, trial.key, trial.lifetimes, points, trial.tasks)


def _judge(trial: Trial, seen: Mapping[str, Curves]) -> dict[str, Any]:
    run = trial.run
    rates = {name: {"learning_rate": rate} for name, rate in run.rates.items() if name in seen}
    judged = held_out_report(
        trial.experiment.lifetime, seen, rates, describe_novelty(run, trial.experiment), trial.look.threshold
    )
    return trial.tree() | {"equation": run.experiment.lifetime.equation(run.theta), "held_out": judged}


def _keep(path: Path, trial: Trial, found: Mapping[str, Any], seen: Mapping[str, Curves]) -> None:
    lifetime = trial.experiment.lifetime
    rows = list(_rows(seen, lifetime, trial.look.threshold))
    artifacts.write_csv(path / _BY_TASK, rows)
    score = primary_metric(lifetime.tasks)
    finals = {name: [row[score] for row in rows if row["contender"] == name] for name in seen}
    write_curves(path, seen, lifetime, found["held_out"]["of"])
    figures.draw_tasks(path / artifacts.FIGURES / "tasks.png", finals, score)
    artifacts.write_json(path / "summary.json", found)


def _rows(seen: Mapping[str, Curves], lifetime: Lifetime, threshold: float) -> Iterator[dict[str, Any]]:
    """One row a contender and task: means over its networks, and the steps after which `reach` is reached."""
    score, length = primary_metric(lifetime.tasks), lifetime.steps
    for name, curve in seen.items():
        where = [point for point in curve.steps.tolist() if point <= length]
        for task, line in zip(np.unique(curve.task).tolist(), by_task(curve, score), strict=True):
            line = line[: len(where)]
            few = {
                f"{shots}_each": line[place] for shots, place in shot_points(where, round_steps(lifetime.tasks)).items()
            }
            scores = {name: float(f"{value:.6g}") for name, value in ({score: line[-1], "born": line[0]} | few).items()}
            yield {
                "contender": name,
                "task": task,
                "steps_to_threshold": threshold_point(line, where, threshold),
            } | scores


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
