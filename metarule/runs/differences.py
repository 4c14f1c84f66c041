"""Scores of several finished runs, evaluated again on their held-out tasks, and paired differences between them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from metarule.analysis.comparison import Contender, by_task, evaluation_steps
from metarule.analysis.evaluation import Curves
from metarule.analysis.statistics import Interval, confidence_band, interval, steps_to_threshold
from metarule.config.toml import ConfigError
from metarule.runs.experiment import with_tasks
from metarule.runs.finished import FinishedRun, load_seeds
from metarule.runs.results import held_out_curves
from metarule.runs.transfer import describe_novelty
from metarule.tasks.base import primary_metric
from metarule.tasks.scores import DIVERGED

__all__ = ["Compared", "Measured", "common_points", "compared_row", "difference", "measure", "open_runs"]
__all__ += ["performance_of", "summary_row", "tasks_text"]


class Compared(NamedTuple):
    """A directory that is compared.

    Attributes:
        name: its path, without what it shares with those of the others.
        directory: its path.
        runs: finished runs in it, one a seed, on the tasks of the comparison.
        of: description of these tasks.
    """

    name: str
    directory: Path
    runs: tuple[FinishedRun, ...]
    of: str


class Measured(NamedTuple):
    """Scores on held-out tasks: of each task for one seed, and of each seed for several.

    Attributes:
        compared: the directory.
        steps: steps before each point.
        ids: numbers of the tasks, or seeds.
        scores: mean score of each.
        diverged: networks that diverged, at each point.
    """

    compared: Compared
    steps: tuple[int, ...]
    ids: tuple[int, ...]
    scores: Float[np.ndarray, "ids points"]
    diverged: Float[np.ndarray, " points"]

    @property
    def length(self) -> int:
        """Steps of a lifetime."""
        return self.compared.runs[0].learner.steps

    @property
    def finals(self) -> Float[np.ndarray, " ids"]:
        """Scores at the end of a lifetime."""
        return self.scores[:, self.steps.index(self.length)]


def open_runs(words: Sequence[str], fields: Sequence[tuple[str, Any]] = ()) -> list[Compared]:
    """Load the finished runs in some directories.

    Args:
        words: the directories.
        fields: (dotted field, value) pairs of other tasks, as of `with_tasks`.

    Raises:
        ConfigError: as `load` and `with_tasks`; fewer than two directories, one that is named twice, or runs of
            different scores.
    """
    if len(words) < 2:
        raise ConfigError("two runs or more are compared; see --help")
    for number, word in enumerate(words):
        if os.path.realpath(word) in map(os.path.realpath, words[:number]):
            raise ConfigError(f"{word}: this run is named twice")
    paths = [Path(os.path.abspath(word)) for word in words]  # noqa: PTH100 (without `..`, which links may change)
    shared = os.path.commonpath([path.parent for path in paths])
    named = zip(words, paths, strict=True)
    compared = [_open(str(path.relative_to(shared)), Path(word), fields) for word, path in named]
    metrics = {one.name: primary_metric(one.runs[0].tasks) for one in compared}
    if len(set(metrics.values())) > 1:
        scores = ", ".join(f"{metric} in {name}" for name, metric in metrics.items())
        raise ConfigError(f"these runs have different scores: {scores}; allowed: runs of the same score")
    return compared


def _open(name: str, directory: Path, fields: Sequence[tuple[str, Any]]) -> Compared:
    runs = load_seeds(directory)
    on_tasks = tuple(replace(run, config=with_tasks(run.config, fields)) for run in runs) if fields else runs
    return Compared(name, directory, on_tasks, describe_novelty(runs[0].tasks, on_tasks[0].config))


def common_points(compared: Sequence[Compared]) -> tuple[int, ...]:
    """Steps after which all are evaluated: those of each run, without multiples of lifetimes of different lengths."""
    runs = [one.runs[0] for one in compared]
    is_one_length = len({run.learner.steps for run in runs}) == 1
    points = set[int]()
    for run in runs:
        settings = run.config.evaluation
        points |= set(evaluation_steps(run.learner, settings.points, settings.horizons if is_one_length else ()))
    return tuple(sorted(points))


def measure(compared: Sequence[Compared], points: tuple[int, ...]) -> list[Measured]:
    """Evaluate every run as it was evaluated at its end; runs of the same tasks and seed share a program."""
    groups: dict[Any, list[tuple[str, FinishedRun]]] = {}
    for one in compared:
        for run in one.runs:
            group = run.tasks, run.config.seed, run.config.evaluation.lifetimes
            groups.setdefault(group, []).append((one.name, run))
    curves: dict[tuple[str, int], Curves] = {}
    for (_, seed, _), members in tqdm(groups.items(), desc="evaluating", unit="seed", disable=None):
        contenders = {name: Contender(run.learner, run.theta) for name, run in members}
        found = held_out_curves(members[0][1].config, contenders, points)
        curves |= {(name, seed): curve for name, curve in found.items()}
    return [_measured(one, [curves[one.name, run.config.seed] for run in one.runs]) for one in compared]


def _measured(one: Compared, curves: Sequence[Curves]) -> Measured:
    metric = primary_metric(one.runs[0].tasks)
    by_seed = [by_task(curve, metric) for curve in curves]
    ids, scores = tuple(np.unique(curves[0].task).tolist()), by_seed[0]
    if len(curves) > 1:
        ids, scores = tuple(run.config.seed for run in one.runs), np.array([tasks.mean(axis=0) for tasks in by_seed])
    diverged = np.sum([np.asarray(curve.metrics[DIVERGED], float).sum(axis=0) for curve in curves], axis=0)
    return Measured(one, tuple(curves[0].steps.tolist()), ids, scores, diverged)


def difference(first: Measured, other: Measured) -> tuple[Interval, int] | str:
    """Final score of the first run − that of another, paired over the tasks or seeds that they share.

    Returns:
        (difference, number of pairs), or the reason why there are none.
    """
    if reason := next(_unpaired(first, other), ""):
        return reason
    shared = [number for number in first.ids if number in other.ids]
    values, others = (dict(zip(one.ids, one.finals, strict=True)) for one in (first, other))
    return interval(np.array([values[number] - others[number] for number in shared])), len(shared)


def _unpaired(first: Measured, other: Measured) -> Iterator[str]:
    """Reasons why two runs have no pairs."""
    runs, others = first.compared.runs, other.compared.runs
    if (len(runs) > 1) != (len(others) > 1):
        yield "only one of the two has several seeds"
    if runs[0].tasks != others[0].tasks:
        yield "other tasks"
    if len(runs) > 1 and not set(first.ids) & set(other.ids):
        yield "no seed in common"
    if len(runs) == 1 and runs[0].config.seed != others[0].config.seed:
        yield "another seed, and with it other held-out tasks"
    if len(runs) == 1 and first.ids != other.ids:
        yield "another number of held-out tasks"


def summary_row(one: Measured, threshold: float) -> dict[str, Any]:
    """Summarise scores as `analysis.comparison.summarise` does, with intervals over tasks or seeds."""
    end, length = one.steps.index(one.length), one.length
    row = interval(one.finals, share=True)._asdict() | {DIVERGED: int(one.diverged[end])}
    within = one.scores[:, : end + 1], one.steps[: end + 1]
    row["steps_to_threshold"] = steps_to_threshold(*within, threshold)._asdict()
    multiples = [point for point in range(end, len(one.steps)) if one.steps[point] % length == 0]
    row["horizon"] = {
        str(one.steps[point] // length): interval(one.scores[:, point], share=True)._asdict()
        | {DIVERGED: int(one.diverged[point])}
        for point in (multiples if len(multiples) > 1 else ())
    }
    return row


def tasks_text(compared: Sequence[Compared]) -> str:
    """Describe the tasks of all runs."""
    return " or ".join(sorted({one.of for one in compared}))


def performance_of(measured: Sequence[Measured]) -> dict[str, Any]:
    """Scores along lifetimes with intervals, as in `performance.json`; the directories are the contenders."""
    bands = {one.compared.name: confidence_band(one.scores) for one in measured}
    metric = primary_metric(measured[0].compared.runs[0].tasks)
    return {"steps": list(measured[0].steps), "score": metric, "contenders": bands}


def compared_row(first: Measured, one: Measured, threshold: float) -> dict[str, Any]:
    """Row of a run: its place, its scores, and its difference from the first one, or why there is none."""
    seeds = len(one.compared.runs)
    row = {"directory": str(one.compared.directory), "seeds": seeds, "over": "seeds" if seeds > 1 else "tasks"}
    row |= {"count": len(one.ids)} | summary_row(one, threshold)
    if one is first:
        return row
    match difference(first, one):
        case str() as reason:
            return row | {"unpaired": reason}
        case found, pairs:
            return row | {"difference": found._asdict(), "pairs": pairs}
