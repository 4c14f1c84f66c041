"""Try learned rules and baselines on the tests of a study, item by item; what is done is kept."""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from benchmarks.studies.declaration import Study, Test
from metarule.analysis.baselines import at_rate, baselines, tune
from metarule.analysis.comparison import LEARNED, few_shots, points_of
from metarule.analysis.evaluation import Curves, learning_curves
from metarule.config.toml import ConfigError
from metarule.meta.phases import lifetimes_of
from metarule.prng import Purpose, run_key, stream
from metarule.runs.experiment import Experiment, to_tree, with_tasks
from metarule.runs.files import read_json, write_json
from metarule.runs.stopping import StopRequest
from metarule.runs.theta_files import load_theta
from metarule.runs.training import theta_meaning
from metarule.sweeps.cells import DONE
from metarule.sweeps.plan import Cell, Plan, Setting
from metarule.sweeps.report import CELLS
from metarule.tasks.base import primary_metric, round_steps
from metarule.types import Learner, Theta

__all__ = ["RETUNED", "Item", "Judged", "items", "judge"]

# What is added to the name of a baseline that was tuned on the tasks of the test.
RETUNED = ", tuned here"
_OWN = Test(name="held-out tasks of their own")


class Item(NamedTuple):
    """Somebody on a test.

    Attributes:
        setting: number of the setting whose rule it is, or with whose rule it is compared.
        test: name of the test.
        contender: `learned`, or a baseline.
        seed: of the rule, the split and the lifetimes.
        source: what the rule was learned on, or the rate tuned on.
        target: what it is tried on.
        theta: reads the learned θ; None for a baseline, whose rate is tuned.
    """

    setting: int
    test: str
    contender: str
    seed: int
    source: Experiment
    target: Experiment
    theta: Callable[[], Theta] | None


class Judged(NamedTuple):
    """What an item came to.

    Attributes:
        item: the item.
        metrics: by name.
        steps: at which it was assessed.
        curve: mean score there.
    """

    item: Item
    metrics: dict[str, float]
    steps: list[int]
    curve: list[float]


def items(study: Study, plan: Plan, directory: Path) -> list[Item]:
    """All that is to be tried.

    Args:
        study: the study.
        plan: of its sweep.
        directory: of its sweep.

    Returns:
        Items in the order in which they are tried: those that share a program one after another.

    Raises:
        ConfigError: a test on which a rule cannot be tried.
    """
    found = []
    for test in study.tests or (_OWN,):
        for number, setting in enumerate(plan.settings):
            target = _target(setting, test)
            _check(study, test, setting.experiment, target)
            thetas = _thetas(plan, directory, number)
            found += [
                Item(number, test.name, LEARNED, seed, setting.experiment, target, theta)
                for seed, theta in thetas.items()
            ]
            for name in study.baselines:
                found += [Item(number, test.name, name, seed, setting.experiment, target, None) for seed in thetas]
            for name in study.retuned:
                found += [Item(number, test.name, name + RETUNED, seed, target, target, None) for seed in thetas]
    return found


def judge(
    study: Study, some: list[Item], folder: Path, stop: StopRequest, progress: Callable[[str], None]
) -> list[Judged]:
    """Try every item that was not tried before.

    Args:
        study: the study.
        some: as from `items`.
        folder: where what is done is kept, an item a file.
        stop: looked at between items.
        progress: told of each item that is done.

    Returns:
        What each came to.

    Raises:
        Stopped: on request.
        ConfigError: a file that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from error
    done, learner = [], None
    for item in some:
        file = folder / f"{_name(item, study)}.json"
        known = read_json(file)
        if known is None:
            stop.answer(0)
            who = _learner(item, item.target)
            if who != learner:  # programs of others are not needed again, and a process may hold only so many
                jax.clear_caches()
                learner = who
            known = _try(item, study)
            write_json(file, known)
        progress(f"{item.test}: {item.contender}, seed {item.seed}")
        done.append(Judged(item, known["metrics"], known["steps"], known["curve"]))
    return done


def _target(setting: Setting, test: Test) -> Experiment:
    try:
        return with_tasks(setting.experiment, list(test.set.items()))
    except ConfigError as error:
        raise ConfigError(f"tests.{test.name}: {error}") from error


def _check(study: Study, test: Test, source: Experiment, target: Experiment) -> None:
    """Refuse baselines that cannot be tried."""
    for field, names in (("baselines", study.baselines), ("retuned", study.retuned)):
        for name in names:
            try:
                for one in (source, target):
                    baselines(one.lifetime, (name,))
            except ValueError as error:
                raise ConfigError(f"{field}: '{name}' cannot be tried on {test.name}: {error}") from error


def _thetas(plan: Plan, directory: Path, setting: int) -> dict[int, Callable[[], Theta]]:
    """What reads the learned θ of a setting, by seed, as far as the cells are done."""
    found: dict[int, Callable[[], Theta]] = {}
    for cell in plan.cells:
        place = directory / CELLS / cell.name / DONE
        for number, point in enumerate(cell.points):
            if point.setting == setting and place.exists():
                found[point.seed] = partial(_theta, cell, place, number)
    return found


def _theta(cell: Cell, place: Path, number: int) -> Theta:
    lifetime = cell.experiment.lifetime
    one = jax.eval_shape(lifetime.init_theta, run_key(0))
    like = jax.tree.map(lambda leaf: jnp.zeros((len(cell.points), *leaf.shape), leaf.dtype), one)
    return jax.tree.map(lambda leaf: leaf[number], load_theta(place, like, theta_meaning(lifetime)))


def _name(item: Item, study: Study) -> str:
    """A name that is the same for whatever comes to the same: settings that differ in the rule share baselines."""
    who = [item.contender, item.seed, study.points, lifetimes_of(item.source.optimizer)]
    if item.theta is None:
        who += [repr(_learner(item, item.source)), repr(_learner(item, item.target))]
    else:
        who += [to_tree(item.source), to_tree(item.target)]
    who += [to_tree(item.target)["evaluation"]]
    return hashlib.sha256(msgspec.json.encode(who)).hexdigest()[:20]


def _learner(item: Item, experiment: Experiment) -> Learner:
    """Who lives: under the learned rule, or as a baseline does."""
    if item.theta is not None:
        return experiment.lifetime
    (found,) = baselines(experiment.lifetime, (item.contender.removesuffix(RETUNED),)).values()
    return found


def _try(item: Item, study: Study) -> dict[str, Any]:
    learner = _learner(item, item.target)
    tuning: dict[str, float] = {}
    if item.theta is not None:
        theta = item.theta()
    else:
        tuned_on: Any = _learner(item, item.source)
        rate = _rate(tuned_on, item.seed, lifetimes_of(item.source.optimizer))
        theta, tuning = at_rate(learner, rate), {"learning_rate": rate}
    seen = _look(learner, theta, item, study.points)
    values = np.asarray(seen.metrics[primary_metric(learner.tasks)], float)
    where = seen.steps.tolist()
    metrics: dict[str, float] = {name: float(np.mean(each[:, -1])) for name, each in seen.metrics.items()}
    curve = values.mean(axis=0)
    metrics |= {"along": float(curve.mean())} | tuning
    few = few_shots(where, round_steps(learner.tasks))
    metrics |= {f"after_{shots}_each": float(curve[place]) for shots, place in few.items()}
    return {"metrics": metrics, "steps": where, "curve": curve}


@lru_cache(maxsize=4096)
def _rate(learner: Any, seed: int, budget: int) -> float:
    """The learning rate that is best on training tasks of a seed; many tests may ask for it."""
    pool, key = learner.tasks.split(seed).train, stream(run_key(seed), Purpose.TUNING)
    return tune(learner, pool, key, budget).rate


def _look(learner: Learner, theta: Theta, item: Item, points: int) -> Curves:
    """Lifetimes on the test tasks of the rule's own split: what it was learned on stays out."""
    pool, key = learner.tasks.split(item.seed).test, stream(run_key(item.seed), Purpose.HELD_OUT)
    lifetimes = item.target.evaluation.lifetimes
    return jax.device_get(learning_curves(learner, theta, pool, key, lifetimes, points_of(learner, points)))
