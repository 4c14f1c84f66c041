"""What a run ends with: the learned rule, the rule that it started from and tuned baselines, on held-out tasks."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from metarule import artifacts, figures
from metarule.baselines import Tuned, baselines, tune
from metarule.evaluation import Curves, curves
from metarule.experiment import Experiment
from metarule.lifetime import Lifetime
from metarule.reports import join_phenomena, report_phenomena
from metarule.statistics import Interval, interval
from metarule.stopping import StopRequest
from metarule.streams import Purpose, run_key, stream
from metarule.tasks.conditioning import Conditioning
from metarule.training import Trained, keep_theta
from metarule.types import Split, Theta

__all__ = ["across_seeds", "contenders", "judge", "table"]

# First and last meta-steps over which the meta-loss is averaged for the summary: one alone is mostly luck.
_ENDS = 10


def judge(experiment: Experiment, path: Path, trained: Trained, stop: StopRequest) -> dict[str, Any]:
    """Measure what was learned, and write it down: θ, summary and figures.

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
    split, key = lifetime.tasks.split(experiment.seed), run_key(experiment.seed)
    look = partial(_look, experiment, split=split)
    clock = [time.perf_counter()]
    seen = {"learned": look(lifetime, trained.theta), "initial": look(lifetime, trained.initial)}
    clock.append(time.perf_counter())
    tuned: dict[str, Tuned] = {}
    classics = baselines(lifetime)
    for name, baseline in classics.items():
        stop.answer(steps)
        tuned[name] = tune(baseline, split.train, stream(key, Purpose.TUNING), experiment.optimizer.lifetimes)
        seen[name] = look(baseline, tuned[name].theta)
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
        "held_out": _held_out(lifetime.tasks.score, seen, tuned),
    }
    if isinstance(lifetime.tasks, Conditioning):
        living = {"learned": (lifetime, trained.theta), "initial": (lifetime, trained.initial)}
        living |= {name: (baseline, tuned[name].theta) for name, baseline in classics.items()}
        summary["phenomena"] = report_phenomena(
            path / artifacts.FIGURES, living, split, stream(key, Purpose.PHENOMENA), experiment.evaluation.lifetimes
        )
    _draw(experiment, path, rows, seen)
    artifacts.write_json(path / "summary.json", summary)
    return summary


def contenders(held_out: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Who is compared in the held-out part of a summary, by name, in the order in which they are shown."""
    return {"learned": held_out["learned"], **held_out["baselines"], "initial": held_out["initial"]}


def table(held_out: Mapping[str, Any], unit: str) -> str:
    """The held-out part of a summary for the screen.

    Args:
        held_out: of a summary.
        unit: what the intervals are taken over.

    Returns:
        Lines.
    """
    title = f"held-out tasks, {held_out['tasks' if unit == 'lives' else 'seeds']} {unit}"
    lines = [f"{title:<36}{held_out['metric']:>8}   95 % interval"]
    for name, row in contenders(held_out).items():
        rate = f" (rate {row['learning_rate']:.3g})" if "learning_rate" in row else ""
        lines.append(f"  {name + rate:<34}{row['mean']:>8.4f}   {row['low']:.4f} to {row['high']:.4f}")
    return "\n".join(lines)


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
        name: [contenders(summary["held_out"])[name]["mean"] for summary in summaries]
        for name in contenders(summaries[0]["held_out"])
    }
    rows = {name: interval(np.array(values))._asdict() | {"by_seed": values} for name, values in scores.items()}
    joint = {
        "seeds": [summary["seed"] for summary in summaries],
        "nonfinite_tasks": sum(summary["nonfinite_tasks"] for summary in summaries),
        "held_out": {
            "metric": metric,
            "seeds": len(summaries),
            "learned": rows.pop("learned"),
            "initial": rows.pop("initial"),
            "baselines": rows,
        },
    }
    if "phenomena" in summaries[0]:
        joint["phenomena"] = join_phenomena([summary["phenomena"] for summary in summaries])
    figures.draw_seeds(path / artifacts.FIGURES / "seeds.png", scores, metric)
    artifacts.write_json(path / "summary.json", joint)
    return joint


def _look(experiment: Experiment, lifetime: Lifetime, theta: Theta, split: Split) -> Curves:
    """Held-out curves: every contender meets the same tasks in the same order from the same initial weights."""
    key = stream(run_key(experiment.seed), Purpose.HELD_OUT)
    settings = experiment.evaluation
    return jax.device_get(curves(lifetime, theta, split.test, key, settings.lifetimes, settings.points))


def _held_out(score: str, seen: Mapping[str, Curves], tuned: Mapping[str, Tuned]) -> dict[str, Any]:
    rows = {name: _row(score, curve) for name, curve in seen.items()}
    return {
        "metric": score,
        "tasks": seen["learned"].metrics[score].shape[0],
        "learned": rows["learned"],
        "initial": rows["initial"],
        "baselines": {
            name: rows[name] | {"learning_rate": float(outcome.theta[0]), "tuning_lifetimes": outcome.lifetimes}
            for name, outcome in tuned.items()
        },
    }


def _row(score: str, curve: Curves) -> dict[str, Any]:
    final = {name: np.asarray(values[:, -1]) for name, values in curve.metrics.items()}
    others = {name: float(values.mean()) for name, values in final.items() if name != score}
    return interval(final[score])._asdict() | others


def _band(values: Float[np.ndarray, "lifetimes points"]) -> dict[str, tuple[float, ...]]:
    """Mean and interval at each point of a curve."""
    return dict(zip(Interval._fields, zip(*(interval(column) for column in values.T))))


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
    points = {name: _band(np.asarray(curve.metrics[score])) for name, curve in seen.items()}
    presentations = seen["learned"].presentations.tolist()
    artifacts.write_json(
        path / "performance.json", {"presentations": presentations, "score": score, "contenders": points}
    )
    figures.draw_performance(folder / "performance.png", presentations, points, score, experiment.evaluation.lifetimes)
