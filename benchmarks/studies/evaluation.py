"""Evaluation of learned rules and baselines on the tests of a study; each score is computed once and kept."""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from tqdm import tqdm

from benchmarks.studies.declaration import Study, Test
from metarule.analysis.baselines import baselines
from metarule.analysis.comparison import LEARNED, evaluation_steps, shot_points
from metarule.analysis.evaluation import learning_curves
from metarule.analysis.tuning import theta_at_rate, tune
from metarule.config.toml import ConfigError
from metarule.meta.phases import lifetimes_of
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Learner
from metarule.runs.experiment import Experiment, to_tree, with_tasks
from metarule.runs.files import json_text, read_json
from metarule.runs.stopping import StopRequest
from metarule.runs.sweep_files import CELLS, DONE
from metarule.runs.theta_files import load_theta, theta_meaning
from metarule.sweeps.plan import Cell, Plan
from metarule.sweeps.rows import write_whole
from metarule.tasks.base import primary_metric, round_steps
from metarule.types import Theta

__all__ = ["RETUNED", "Item", "Scores", "evaluate", "items"]

# Suffix of a baseline that is tuned on the tasks of the test.
RETUNED = ", tuned here"
_OWN = Test(name="held-out tasks of their own")


class Item(NamedTuple):
    """A rule or baseline on a test.

    Attributes:
        setting: number of the setting of the rule, or of the rule with which the baseline is compared.
        test: name of the test.
        contender: `learned`, or a baseline.
        seed: of the rule, the split and the lifetimes.
        source: experiment on which the rule was learned, or the rate is tuned.
        target: experiment of the test.
        theta: reads the learned θ; None for a baseline, whose rate is tuned.
    """

    setting: int
    test: str
    contender: str
    seed: int
    source: Experiment
    target: Experiment
    theta: Callable[[], Theta] | None


class Scores(NamedTuple):
    """Scores of an item by metric, the steps at which it was evaluated, and its mean score there."""

    item: Item
    metrics: dict[str, float]
    steps: list[int]
    curve: list[float]


def items(study: Study, plan: Plan, directory: Path) -> list[Item]:
    """List the items of finished cells of a study, whose sweep has a plan and a directory.

    Items that share a program are neighbours.

    Raises:
        ConfigError: a test on which a rule or baseline cannot be evaluated.
    """
    result = []
    for test in study.tests or (_OWN,):
        for number, setting in enumerate(plan.settings):
            source = setting.experiment
            try:
                target = with_tasks(source, list(test.set.items()))
            except ConfigError as error:
                raise ConfigError(f"tests.{test.name}: {error}") from error
            thetas = _thetas(plan, directory, number)
            result += [Item(number, test.name, LEARNED, seed, source, target, thetas[seed]) for seed in thetas]
            kinds = ("baselines", study.baselines, "", source), ("retuned", study.retuned, RETUNED, target)
            for field, names, suffix, tuned_on in kinds:
                for name in names:
                    try:
                        for one in (source, target):
                            baselines(one.lifetime, (name,))
                    except ValueError as error:
                        raise ConfigError(f"{field}: '{name}' cannot be evaluated on {test.name}: {error}") from error
                    result += [Item(number, test.name, name + suffix, seed, tuned_on, target, None) for seed in thetas]
    return result


def evaluate(study: Study, all_items: list[Item], folder: Path, stop: StopRequest) -> list[Scores]:
    """Evaluate every item that was not evaluated before, and show progress.

    Args:
        study: the study.
        all_items: as from `items`.
        folder: for the scores, one file an item.
        stop: request to stop, answered between items.

    Raises:
        Stopped: on request.
        ConfigError: a file that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from error
    done, learner, test = list[Scores](), None, ""
    bar = tqdm(all_items, desc="evaluating rules and baselines", unit="item", disable=None)
    for item in bar:
        if bar.disable and item.test != test:
            print(f"evaluating rules and baselines on {item.test}", flush=True)
        test, file = item.test, folder / f"{_name(item, study)}.json"
        known = read_json(file)
        if known is None:
            stop.answer(0)
            if (next_learner := _learner(item, item.target)) != learner:  # a process may hold only so many programs
                jax.clear_caches()
                learner = next_learner
            known = _evaluate(item, study.points)
            write_whole(file, json_text(known))
        bar.set_postfix_str(f"{item.test}: {item.contender}, seed {item.seed}", refresh=False)
        done.append(Scores(item, known["metrics"], known["steps"], known["curve"]))
    return done


def _thetas(plan: Plan, directory: Path, setting: int) -> dict[int, Callable[[], Theta]]:
    """Functions that read the learned θ of a setting, by seed, of finished cells."""
    readers: dict[int, Callable[[], Theta]] = {}
    for cell in plan.cells:
        folder = directory / CELLS / cell.name / DONE
        for number, point in enumerate(cell.points):
            if point.setting == setting and folder.exists():
                readers[point.seed] = partial(_theta, cell, folder, number)
    return readers


def _theta(cell: Cell, folder: Path, number: int) -> Theta:
    lifetime = cell.experiment.lifetime
    one = jax.eval_shape(lifetime.init_theta, run_key(0))
    like = jax.tree.map(lambda leaf: jnp.zeros((len(cell.points), *leaf.shape), leaf.dtype), one)
    return jax.tree.map(lambda leaf: leaf[number], load_theta(folder, like, theta_meaning(lifetime)))


def _name(item: Item, study: Study) -> str:
    """Name of the file of scores: settings that differ in the rule alone share those of baselines."""
    key = [item.contender, item.seed, study.points, lifetimes_of(item.source.optimizer)]
    if item.theta is None:
        key += [repr(_learner(item, item.source)), repr(_learner(item, item.target))]
    else:
        key += [to_tree(item.source), to_tree(item.target)]
    key += [to_tree(item.target)["evaluation"]]
    return hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:20]


def _learner(item: Item, experiment: Experiment) -> Learner:
    """Learner with the learned rule, or that of a baseline."""
    if item.theta is not None:
        return experiment.lifetime
    (learner,) = baselines(experiment.lifetime, (item.contender.removesuffix(RETUNED),)).values()
    return learner


def _evaluate(item: Item, points: int) -> dict[str, Any]:
    """Scores on the test tasks of the rule's own split, which exclude its training tasks."""
    learner = _learner(item, item.target)
    tuning: dict[str, float] = {}
    if item.theta is not None:
        theta = item.theta()
    else:
        tuned_on: Any = _learner(item, item.source)
        rate = _rate(tuned_on, item.seed, lifetimes_of(item.source.optimizer))
        theta, tuning = theta_at_rate(learner, rate), {"learning_rate": rate}
    pool, key = learner.tasks.split(item.seed).test, stream(run_key(item.seed), Purpose.HELD_OUT)
    lifetimes, steps = item.target.evaluation.lifetimes, evaluation_steps(learner, points)
    curves = jax.device_get(learning_curves(learner, theta, pool, key, lifetimes, steps))
    curve = np.asarray(curves.metrics[primary_metric(learner.tasks)], float).mean(axis=0)
    metrics: dict[str, float] = {name: float(np.mean(scores[:, -1])) for name, scores in curves.metrics.items()}
    metrics |= {"along": float(curve.mean())} | tuning
    few = shot_points(curves.steps.tolist(), round_steps(learner.tasks))
    metrics |= {f"after_{shots}_each": float(curve[index]) for shots, index in few.items()}
    return {"metrics": metrics, "steps": curves.steps.tolist(), "curve": curve}


@lru_cache(maxsize=4096)
def _rate(learner: Any, seed: int, budget: int) -> float:
    """Best learning rate on the training tasks of a seed, cached since several tests use it."""
    pool, key = learner.tasks.split(seed).train, stream(run_key(seed), Purpose.TUNING)
    return tune(learner, pool, key, budget).rate
