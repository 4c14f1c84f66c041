"""Results of a run: the learned rule, the initial rule and tuned baselines on held-out tasks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from metarule.analysis.ablation import limited_contribution_report
from metarule.analysis.baselines import baselines
from metarule.analysis.comparison import (
    INITIAL,
    LEARNED,
    Contender,
    by_task,
    compare,
    describe_split,
    evaluation_steps,
    held_out_report,
    join_reports,
)
from metarule.analysis.evaluation import Curves
from metarule.analysis.statistics import confidence_band
from metarule.analysis.tuning import Tuned, tune_all
from metarule.meta.phases import lifetimes_of
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Learner
from metarule.runs import figures
from metarule.runs.diagnosis import mean_loss
from metarule.runs.directory import FIGURES
from metarule.runs.experiment import Experiment
from metarule.runs.files import write_json
from metarule.runs.metrics import read_metrics
from metarule.runs.phenomena import join_phenomena, measure_phenomena
from metarule.runs.stopping import StopRequest
from metarule.runs.theta_files import flat_parameters, write_theta
from metarule.runs.training import Trained
from metarule.runs.validation import report
from metarule.tasks.base import primary_metric
from metarule.tasks.conditioning import Conditioning

__all__ = ["held_out_curves", "join_seeds", "write_curves", "write_results"]

# Meta-steps at each end over which the meta-loss is averaged; a single one is noisy.
_ENDS = 10


@figures.drawn_last()
def write_results(experiment: Experiment, path: Path, trained: Trained, stop: StopRequest) -> dict[str, Any]:
    """Evaluate what was learned, and write θ and the summary, then figures.

    Args:
        experiment: the experiment.
        path: directory of the run.
        trained: outcome of meta-training.
        stop: checked between measurements.

    Raises:
        Stopped: on request; θ is saved by then.
    """
    lifetime, split, key = experiment.lifetime, experiment.split, run_key(experiment.seed)
    write_theta(path, lifetime, trained.theta)
    seconds = dict(trained.seconds)
    contenders = {LEARNED: Contender(lifetime, trained.theta), INITIAL: Contender(lifetime, trained.initial)}
    with _timed(seconds, "baselines"):
        learners = baselines(lifetime, experiment.evaluation.baselines)
        budget, pause = lifetimes_of(experiment.optimizer, trained.steps), partial(stop.answer, trained.steps)
        tuned = tune_all(learners, split.train, stream(key, Purpose.TUNING), budget, pause)
        contenders |= {name: Contender(learner, tuned[name].theta) for name, learner in learners.items()}
    pause()
    with _timed(seconds, "evaluation"):
        settings = experiment.evaluation
        points = evaluation_steps(lifetime, settings.points, settings.horizons)
        curves = held_out_curves(experiment, contenders, points)
    pause()
    with _timed(seconds, "contributions"):
        lifetimes = experiment.evaluation.lifetimes
        held_out_key = stream(key, Purpose.HELD_OUT)
        contributions = limited_contribution_report(lifetime, trained.theta, split, held_out_key, lifetimes)
    with _timed(seconds, "statistics"):
        rows, tasks = read_metrics(path), describe_split(split)
        rates = {name: _tuning(one) for name, one in tuned.items()}
        summary = _training_summary(experiment, trained, rows) | report(experiment, rows)
        summary["held_out"] = held_out_report(lifetime, curves, rates, tasks)
        if contributions is not None:
            summary["contributions"] = contributions
        if isinstance(lifetime.tasks, Conditioning):
            phenomena_key = stream(key, Purpose.PHENOMENA)
            summary["phenomena"] = measure_phenomena(contenders, phenomena_key, lifetimes, path / FIGURES)
        write_curves(path, curves, lifetime, summary["held_out"], figures.run_name(path))
    summary["seconds"] = seconds | {"total": sum(seconds.values())}
    write_json(path / "summary.json", summary)
    _draw_training(path, rows, list(flat_parameters(lifetime, trained.theta)), summary["held_out"])
    return summary


@figures.drawn_last()
def join_seeds(path: Path, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the summaries of several seeds, with intervals over seeds, and write and draw the joint one."""
    joint = {
        "seeds": [summary["seed"] for summary in summaries],
        "nonfinite_lifetimes": sum(summary["nonfinite_lifetimes"] for summary in summaries),
        "held_out": join_reports([summary["held_out"] for summary in summaries]),
    }
    notes = figures.seeds_notes(joint["held_out"], figures.run_name(path))
    if "phenomena" in summaries[0]:
        joint["phenomena"] = join_phenomena([summary["phenomena"] for summary in summaries])
        figures.draw_timings(path / FIGURES / "timings.png", joint["phenomena"], notes["caption"])
    write_json(path / "summary.json", joint)
    figures.draw_seeds(path / FIGURES / "seeds.png", joint["held_out"], **notes)
    return joint


def write_curves(
    path: Path, curves: Mapping[str, Curves], learner: Learner, report: Mapping[str, Any], run: str
) -> None:
    """Write and draw scores along lifetimes, with intervals over tasks.

    Args:
        path: directory of `performance.json` and its figure.
        curves: by contender.
        learner: one of the contenders.
        report: of the curves, from `held_out_report`, or with the rows from `summarise` as `contenders`.
        run: name of the run.
    """
    score, steps = primary_metric(learner.tasks), next(iter(curves.values())).steps.tolist()
    bands = {name: confidence_band(by_task(curve, score)) for name, curve in curves.items()}
    performance = {"steps": steps, "score": score, "contenders": bands}
    write_json(path / "performance.json", performance)
    notes = figures.performance_notes(report, run)
    figures.draw_performance(path / FIGURES / "performance.png", performance, learner.steps, **notes)


def held_out_curves(
    experiment: Experiment, contenders: Mapping[str, Contender], points: tuple[int, ...]
) -> dict[str, Curves]:
    """Compute learning curves on held-out tasks, with the tasks, orders and initial weights that evaluate a run.

    Args:
        experiment: of the run; its seed decides all draws.
        contenders: of its tasks.
        points: steps after which networks are evaluated; the scores at a step do not depend on the others.
    """
    key = stream(run_key(experiment.seed), Purpose.HELD_OUT)
    return compare(contenders, experiment.split.test, key, experiment.evaluation.lifetimes, points)


def _tuning(tuned: Tuned) -> dict[str, Any]:
    decay = {} if tuned.decay is None else {"trace_decay": tuned.decay}
    return {"learning_rate": tuned.rate or None} | decay | {"tuning_lifetimes": tuned.lifetimes}


def _training_summary(experiment: Experiment, trained: Trained, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    lifetime = experiment.lifetime
    return {
        "seed": experiment.seed,
        "steps": trained.steps,
        "theta": lifetime.describe(trained.theta),
        "equation": lifetime.equation(trained.theta),
        "meta_loss": {"first": mean_loss(rows[:_ENDS]), "last": mean_loss(rows[-_ENDS:])},
        "nonfinite_lifetimes": sum(row["nonfinite_lifetimes"] for row in rows),
        "zero_gradient_lifetimes": sum(row["zero_gradient_lifetimes"] for row in rows),
        "rejected_steps": sum(row["rejected"] for row in rows),
    }


def _draw_training(path: Path, rows: Sequence[dict[str, Any]], names: Sequence[str], held_out: dict[str, Any]) -> None:
    """Draw the meta-loss, and the named parameters over meta-steps."""
    run = figures.run_name(path)
    figures.draw_meta_loss(path / FIGURES / "meta-loss.png", rows, held_out, run)
    figures.draw_coefficients(path / FIGURES / "coefficients.png", names, rows, run)


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start
