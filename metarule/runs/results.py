"""What a run ends with: the learned rule, the rule that it started from and tuned baselines, on held-out tasks."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarule.analysis.ablation import limited_contribution_report
from metarule.analysis.baselines import Tuned, baselines, tune
from metarule.analysis.comparison import (
    INITIAL,
    LEARNED,
    Contender,
    by_task,
    compare,
    count_text,
    describe_split,
    evaluation_steps,
    held_out_report,
    join_reports,
    rows_by_contender,
)
from metarule.analysis.evaluation import Curves
from metarule.analysis.statistics import confidence_band
from metarule.meta.phases import lifetimes_of, total_steps
from metarule.prng import Purpose, run_key, stream
from metarule.runs import artifacts, figures
from metarule.runs.experiment import Experiment
from metarule.runs.phenomena import draw_report, join_phenomena, measure_phenomena
from metarule.runs.stopping import StopRequest
from metarule.runs.training import Trained, write_theta
from metarule.tasks.base import primary_metric
from metarule.tasks.conditioning import Conditioning
from metarule.tasks.scores import DIVERGED
from metarule.types import Learner, Split

__all__ = ["across_seeds", "judge", "write_curves"]

# First and last meta-steps over which the meta-loss is averaged for the summary: one alone is mostly luck.
_ENDS = 10


@figures.drawn_last()
def judge(experiment: Experiment, path: Path, trained: Trained, stop: StopRequest) -> dict[str, Any]:
    """Measure what was learned, and write it down: θ and summary, then figures.

    Args:
        experiment: what ran.
        path: its directory.
        trained: its outcome.
        stop: looked at between measurements.

    Returns:
        The summary.

    Raises:
        Stopped: on request; θ is saved by then.
    """
    lifetime, steps = experiment.lifetime, total_steps(experiment.optimizer)
    write_theta(path, lifetime, trained.theta)
    split, key = experiment.split, run_key(experiment.seed)
    clock = [time.perf_counter()]
    contenders = {LEARNED: Contender(lifetime, trained.theta), INITIAL: Contender(lifetime, trained.initial)}
    seen = _look(experiment, contenders, split)
    clock.append(time.perf_counter())
    tuned: dict[str, Tuned] = {}
    for name, baseline in baselines(lifetime, experiment.evaluation.baselines).items():
        stop.answer(steps)
        tuned[name] = tune(baseline, split.train, stream(key, Purpose.TUNING), lifetimes_of(experiment.optimizer))
        contenders[name] = Contender(baseline, tuned[name].theta)
        seen |= _look(experiment, {name: contenders[name]}, split)
    clock.append(time.perf_counter())
    stop.answer(steps)
    lifetimes = experiment.evaluation.lifetimes
    contributions = limited_contribution_report(
        lifetime, trained.theta, split, stream(key, Purpose.HELD_OUT), lifetimes
    )
    clock.append(time.perf_counter())
    rows = artifacts.read_metrics(path)
    summary = {
        "seed": experiment.seed,
        "steps": steps,
        "theta": lifetime.describe(trained.theta),
        "equation": lifetime.equation(trained.theta),
        "meta_loss": {"first": _mean_loss(rows[:_ENDS]), "last": _mean_loss(rows[-_ENDS:])},
        "nonfinite_lifetimes": sum(row["nonfinite_lifetimes"] for row in rows),
        "zero_gradient_lifetimes": sum(row["zero_gradient_lifetimes"] for row in rows),
        "rejected_steps": sum(row["rejected"] for row in rows),
        "held_out": held_out_report(
            lifetime, seen, {name: _rate(one) for name, one in tuned.items()}, describe_split(split)
        ),
    }
    if contributions is not None:
        summary["contributions"] = contributions
    if isinstance(lifetime.tasks, Conditioning):
        runs = experiment.evaluation.lifetimes
        found = measure_phenomena(contenders, stream(key, Purpose.PHENOMENA), runs)
        summary["phenomena"] = found.report
        draw_report(path / artifacts.FIGURES, lifetime, found)
    write_curves(path, seen, lifetime, describe_split(split))
    clock.append(time.perf_counter())
    parts = ("evaluation", "baselines", "contributions", "statistics")
    seconds = trained.seconds | dict(zip(parts, map(float, np.diff(clock)), strict=True))
    summary["seconds"] = seconds | {"total": sum(seconds.values())}
    artifacts.write_json(path / "summary.json", summary)
    _draw(path, rows)
    return summary


@figures.drawn_last()
def across_seeds(path: Path, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the summaries of runs that differ in their seed alone, with intervals over seeds.

    Args:
        path: directory that holds the runs; `summary.json` and a figure are written there.
        summaries: one a seed.

    Returns:
        The joint summary.
    """
    joint = {
        "seeds": [summary["seed"] for summary in summaries],
        "nonfinite_lifetimes": sum(summary["nonfinite_lifetimes"] for summary in summaries),
        "held_out": join_reports([summary["held_out"] for summary in summaries]),
    }
    if "phenomena" in summaries[0]:
        joint["phenomena"] = join_phenomena([summary["phenomena"] for summary in summaries])
        figures.draw_timings(path / artifacts.FIGURES / "timings.png", joint["phenomena"])
    artifacts.write_json(path / "summary.json", joint)
    by_seed = {name: row["by_seed"] for name, row in rows_by_contender(joint["held_out"]).items()}
    what = f"{joint['held_out']['of'].capitalize()}: {len(summaries)} seeds (dots) and their mean (bars)"
    figures.draw_seeds(path / artifacts.FIGURES / "seeds.png", by_seed, joint["held_out"]["metric"], what)
    return joint


def _look(experiment: Experiment, contenders: Mapping[str, Contender], split: Split) -> dict[str, Curves]:
    """Held-out learning_curves: every contender meets the same tasks in the same order from the same initial weights."""
    key, settings = stream(run_key(experiment.seed), Purpose.HELD_OUT), experiment.evaluation
    points = evaluation_steps(experiment.lifetime, settings.points, settings.horizons)
    return compare(contenders, split.test, key, settings.lifetimes, points)


def _rate(tuned: Tuned) -> dict[str, Any]:
    return {"learning_rate": tuned.rate, "tuning_lifetimes": tuned.lifetimes}


def _mean_loss(rows: list[dict[str, Any]]) -> float | None:
    losses = [row["loss"] for row in rows if row["loss"] is not None]
    return float(np.mean(losses)) if losses else None


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """What became of θ and its meta-loss."""
    folder = path / artifacts.FIGURES
    steps = [row["step"] for row in rows]
    figures.draw_meta_loss(folder / "meta-loss.png", steps, [row["loss"] for row in rows])
    names = artifacts.read_json(path / "theta.json")["theta"]
    by_panel: dict[str, dict[str, list[float]]] = {}
    for name, values in zip(names, zip(*(row["theta"] for row in rows)), strict=True):
        panel, _, term = name.rpartition(": ")
        by_panel.setdefault(panel or "one θ for all projections", {})[term] = list(values)
    figures.draw_coefficients(folder / "coefficients.png", steps, by_panel)


def write_curves(path: Path, seen: Mapping[str, Curves], learner: Learner, of: str) -> None:
    """Write scores along lifetimes, with their intervals over tasks, and draw them.

    Args:
        path: directory in which `performance.json` and its figure go.
        seen: curves by contender.
        learner: one of them, who tells the length of a lifetime and the score.
        of: what the tasks are.
    """
    score = primary_metric(learner.tasks)
    points = {name: confidence_band(by_task(curve, score)) for name, curve in seen.items()}
    first = next(iter(seen.values()))
    where = first.steps.tolist()
    written = {"steps": where, "score": score, "contenders": points}
    artifacts.write_json(path / "performance.json", written)
    end = where.index(learner.steps)
    counts = {name: int(curve.metrics[DIVERGED][:, end].sum()) for name, curve in seen.items()}
    says = f"{of}: mean and 95 % interval over {count_text(len(np.unique(first.task)), 'tasks')}, {len(first.task)} networks"
    if any(counts.values()):
        says += "\ndiverged: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    figures.draw_performance(path / artifacts.FIGURES / "performance.png", written, learner.steps, says)
