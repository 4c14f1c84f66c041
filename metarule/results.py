"""What a run ends with: the learned rule, the rule that it started from and tuned baselines, on held-out tasks."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarule import artifacts, figures
from metarule.baselines import Tuned, baselines, tune
from metarule.comparison import INITIAL, LEARNED, Contender, by_task, compare, contenders_of, held_out, points_of
from metarule.evaluation import Curves
from metarule.experiment import Experiment
from metarule.reports import join_phenomena, report_phenomena
from metarule.statistics import band, interval
from metarule.stopping import StopRequest
from metarule.streams import Purpose, run_key, stream
from metarule.tasks.conditioning import Conditioning
from metarule.training import Trained, keep_theta
from metarule.types import Split

__all__ = ["across_seeds", "judge", "keep_curves"]

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
    lifetime, steps = experiment.lifetime, experiment.optimizer.steps
    keep_theta(path, lifetime, trained.theta)
    split, key = experiment.split, run_key(experiment.seed)
    clock = [time.perf_counter()]
    contenders = {LEARNED: Contender(lifetime, trained.theta), INITIAL: Contender(lifetime, trained.initial)}
    seen = _look(experiment, contenders, split)
    clock.append(time.perf_counter())
    tuned: dict[str, Tuned] = {}
    for name, baseline in baselines(lifetime, experiment.evaluation.baselines).items():
        stop.answer(steps)
        tuned[name] = tune(baseline, split.train, stream(key, Purpose.TUNING), experiment.optimizer.lifetimes)
        contenders[name] = Contender(baseline, tuned[name].theta)
        seen |= _look(experiment, {name: contenders[name]}, split)
    clock.append(time.perf_counter())
    seconds = trained.seconds | dict(zip(("evaluation", "baselines"), map(float, np.diff(clock))))
    rows = artifacts.read_metrics(path)
    summary = {
        "seed": experiment.seed,
        "steps": steps,
        "seconds": seconds | {"total": sum(seconds.values())},
        "theta": lifetime.describe(trained.theta),
        "equation": lifetime.equation(trained.theta),
        "meta_loss": {"first": _mean_loss(rows[:_ENDS]), "last": _mean_loss(rows[-_ENDS:])},
        "nonfinite_tasks": sum(row["nonfinite_tasks"] for row in rows),
        "zero_gradient_tasks": sum(row["zero_gradient_tasks"] for row in rows),
        "rejected_steps": sum(row["rejected"] for row in rows),
        "held_out": held_out(lifetime, seen, {name: _rate(one) for name, one in tuned.items()}),
    }
    if isinstance(lifetime.tasks, Conditioning):
        summary["phenomena"] = report_phenomena(
            path / artifacts.FIGURES, contenders, split, stream(key, Purpose.PHENOMENA), experiment.evaluation.lifetimes
        )
    _draw(experiment, path, rows, seen)
    artifacts.write_json(path / "summary.json", summary)
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
    metric = summaries[0]["held_out"]["metric"]
    scores = {
        name: [contenders_of(summary["held_out"])[name]["mean"] for summary in summaries]
        for name in contenders_of(summaries[0]["held_out"])
    }
    rows = {name: interval(np.array(values))._asdict() | {"by_seed": values} for name, values in scores.items()}
    joint = {
        "seeds": [summary["seed"] for summary in summaries],
        "nonfinite_tasks": sum(summary["nonfinite_tasks"] for summary in summaries),
        "held_out": {
            "metric": metric,
            "seeds": len(summaries),
            LEARNED: rows.pop(LEARNED),
            INITIAL: rows.pop(INITIAL),
            "baselines": rows,
        },
    }
    if "phenomena" in summaries[0]:
        joint["phenomena"] = join_phenomena([summary["phenomena"] for summary in summaries])
    figures.draw_seeds(path / artifacts.FIGURES / "seeds.png", scores, metric)
    artifacts.write_json(path / "summary.json", joint)
    return joint


def _look(experiment: Experiment, contenders: Mapping[str, Contender], split: Split) -> dict[str, Curves]:
    """Held-out curves: every contender meets the same tasks in the same order from the same initial weights."""
    key, settings = stream(run_key(experiment.seed), Purpose.HELD_OUT), experiment.evaluation
    return compare(contenders, split.test, key, settings.lifetimes, points_of(experiment.lifetime, settings.points))


def _rate(tuned: Tuned) -> dict[str, Any]:
    return {"learning_rate": tuned.rate, "tuning_lifetimes": tuned.lifetimes}


def _mean_loss(rows: list[dict[str, Any]]) -> float | None:
    losses = [row["loss"] for row in rows if row["loss"] is not None]
    return float(np.mean(losses)) if losses else None


def _draw(experiment: Experiment, path: Path, rows: list[dict[str, Any]], seen: Mapping[str, Curves]) -> None:
    folder = path / artifacts.FIGURES
    score = experiment.lifetime.tasks.score
    steps = [row["step"] for row in rows]
    figures.draw_meta_loss(folder / "meta-loss.png", steps, [row["loss"] for row in rows])
    names = artifacts.read_json(path / "theta.json")["theta"]
    by_panel: dict[str, dict[str, list[float]]] = {}
    for name, values in zip(names, zip(*(row["theta"] for row in rows)), strict=True):
        panel, _, term = name.rpartition(": ")
        by_panel.setdefault(panel or "one θ for all projections", {})[term] = list(values)
    figures.draw_coefficients(folder / "coefficients.png", steps, by_panel)
    keep_curves(path, seen, score)


def keep_curves(path: Path, seen: Mapping[str, Curves], score: str, tasks: int | None = None) -> None:
    """Write scores along lives, with their intervals, and draw them.

    Args:
        path: directory in which `performance.json` and its figure go.
        seen: curves by contender.
        score: the metric that people quote.
        tasks: as of `summarise`.
    """
    values = {name: by_task(curve.metrics[score], tasks) for name, curve in seen.items()}
    points = {name: band(each) for name, each in values.items()}
    first = next(iter(seen))
    presentations = seen[first].presentations.tolist()
    artifacts.write_json(
        path / "performance.json", {"presentations": presentations, "score": score, "contenders": points}
    )
    met = f"{len(values[first])} {'held-out lives' if tasks is None else 'new tasks'}"
    figures.draw_performance(path / artifacts.FIGURES / "performance.png", presentations, points, score, met)
