"""Validation tasks: when training ends, and which θ is reported."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax

from metarule.analysis.evaluation import learning_curves
from metarule.config.toml import ConfigError
from metarule.meta.phases import parts_of, patience_of, total_steps
from metarule.prng import Purpose, run_key, stream
from metarule.runs.experiment import Experiment
from metarule.runs.files import read_json
from metarule.runs.theta_files import BEST, load_theta, save_theta, theta_meaning
from metarule.tasks.base import primary_metric
from metarule.tasks.subsets import split_off
from metarule.types import Theta

__all__ = ["VALIDATION", "Pools", "best_mark", "is_over", "pools_of"]
__all__ += ["report", "report_text", "reported_theta", "save_best", "validate"]

# Field of the metrics with scores on validation tasks.
VALIDATION = "validation"
Marks: TypeAlias = Sequence[dict[str, Any]]


class Pools(NamedTuple):
    """Tasks of meta-training.

    Attributes:
        train: training tasks.
        validation: tasks split off them, or None.
    """

    train: Any
    validation: Any


def pools_of(experiment: Experiment) -> Pools:
    """Training tasks, and validation tasks if a part of the experiment needs them.

    Raises:
        ConfigError: tasks of which no validation tasks can be split off.
    """
    pool = experiment.split.train
    if not experiment.is_validated:
        return Pools(pool, None)
    try:
        return Pools(*split_off(experiment.tasks, pool, experiment.seed))
    except ValueError as error:
        field = "optimizer.patience" if patience_of(experiment.optimizer) else "evaluation.theta"
        raise ConfigError(f"{field}: {error}") from error


def validate(experiment: Experiment, theta: Theta, pools: Pools) -> dict[str, dict[str, float]]:
    """Row of the metrics with mean scores on validation tasks, the same lifetimes each time; empty without them."""
    if pools.validation is None:
        return {}
    key, lifetimes = stream(run_key(experiment.seed), Purpose.VALIDATION), experiment.evaluation.monitor_lifetimes
    curves = jax.device_get(learning_curves(experiment.lifetime, theta, pools.validation, key, lifetimes, 1))
    return {VALIDATION: {name: float(values[:, -1].mean()) for name, values in curves.metrics.items()}}


def best_mark(experiment: Experiment, marks: Marks) -> dict[str, Any] | None:
    """First of the validated rows with the best score; None without any."""

    def score(row: dict[str, Any]) -> float:
        value = row[VALIDATION][primary_metric(experiment.tasks)]
        return value if value is not None and math.isfinite(value) else -math.inf

    return max(_scheduled(experiment, marks), key=score, default=None)


def is_over(experiment: Experiment, marks: Marks) -> bool:
    """True if the score has not become better for as many meta-steps as the patience."""
    patience, best = patience_of(experiment.optimizer), best_mark(experiment, marks)
    return bool(patience and best and marks[-1]["step"] - best["step"] >= patience)


def save_best(experiment: Experiment, path: Path, theta: Theta, row: dict[str, Any]) -> None:
    """Write the best θ so far, with its meta-step and scores."""
    meaning = theta_meaning(experiment.lifetime)
    save_theta(path, theta, meaning | {"step": row["step"], VALIDATION: row[VALIDATION]}, BEST)


def reported_theta(experiment: Experiment, path: Path, marks: Marks, last: Theta) -> Theta:
    """The best θ, or the last one, as the experiment says.

    Raises:
        ConfigError: the best θ is missing, or not that of the metrics.
    """
    best = best_mark(experiment, marks)
    if best is None or not _is_best_reported(experiment):
        return last
    file = path / f"{BEST}.json"
    if (step := (read_json(file) or {}).get("step")) != best["step"]:
        raise ConfigError(
            f"{file}: it is of meta-step {step}, and the best in the metrics is {best['step']}: the run was resumed in "
            "another environment; start anew with --overwrite"
        )
    return load_theta(path, last, theta_meaning(experiment.lifetime), BEST)


def _is_best_reported(experiment: Experiment) -> bool:
    choice = experiment.evaluation.theta
    return choice == "best" or (choice == "auto" and patience_of(experiment.optimizer) > 0)


def report(experiment: Experiment, rows: Marks) -> dict[str, Any]:
    """Part of a summary about the reported θ; empty without validation tasks."""
    marks = [row for row in rows if VALIDATION in row]
    best = best_mark(experiment, marks)
    if best is None:
        return {}
    name, row = ("best", best) if _is_best_reported(experiment) else ("last", rows[-1])
    metric, planned = primary_metric(experiment.tasks), total_steps(experiment.optimizer)
    chosen = {"theta": name, "step": row["step"], "metric": metric, VALIDATION: row[VALIDATION][metric]}
    return {"reported": chosen | {"of": rows[-1]["step"], "planned": planned}}


def report_text(reported: dict[str, Any]) -> str:
    """Line about the reported θ for the screen."""
    step, end, planned, metric = (reported[name] for name in ("step", "of", "planned", "metric"))
    early = f"; training ended after {end} of {planned} meta-steps, by the patience" if end < planned else ""
    score = math.nan if reported[VALIDATION] is None else reported[VALIDATION]
    return f"θ: the {reported['theta']}, of meta-step {step}, with validation {metric} {score:.4f}{early}"


def _scheduled(experiment: Experiment, marks: Marks) -> Marks:
    """Rows that count.

    A search that comes first is left out: its candidates are not compared with what follows. So is the end of a run
    before it was made longer, which a run that was as long from the start does not score.
    """
    total, every = total_steps(experiment.optimizer), experiment.evaluation.monitor_every
    start = total - parts_of(experiment.optimizer)[-1].steps
    return [row for row in marks if row["step"] > start and (row["step"] % every == 0 or row["step"] == total)]
