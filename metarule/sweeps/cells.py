"""Cells of a sweep: meta-training and held-out metrics of many points in one compiled program."""

import inspect
import shutil
import time
import uuid
from collections.abc import Callable
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from msgspec.structs import replace

from metarule.analysis.evaluation import learning_curves
from metarule.analysis.lyapunov import lyapunov_exponent
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.meta.loop import begin, phase_key, start_phase
from metarule.meta.phases import Phase, lifetimes_of, phases, resolved, total_steps, train_tasks_of
from metarule.parallel.batching import batch_lifetimes, device_count
from metarule.parallel.devices import sharded_jit
from metarule.prng import Purpose, run_key, stream
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.directory import CHECKPOINTS
from metarule.runs.driver import drive, restore
from metarule.runs.environment import environment, record_environment
from metarule.runs.experiment import Experiment
from metarule.runs.files import write_json
from metarule.runs.stopping import StopRequest
from metarule.runs.theta_files import flat_parameters, save_theta, theta_meaning
from metarule.sweeps.claims import publish
from metarule.sweeps.plan import Cell, with_values
from metarule.tasks.base import primary_metric
from metarule.types import Integer, Theta

__all__ = ["DONE", "Outcome", "State", "measure", "run_cell", "solve"]

DONE = "done"
# Last meta-steps over which the meta-loss is averaged, as in the summary of a run, because one value is noisy.
_LAST = 10
# Meta-steps that are timed for an estimate, and cost of a step that is not differentiated.
_TIMED = 2
_FORWARD = 0.3


class State(NamedTuple):
    """State of a point; in a cell each array has a leading axis over its points.

    Attributes:
        optimizer: state of the optimiser.
        losses: meta-loss of each meta-step so far [steps].
        nonfinite: lifetimes left out because their loss or gradient was not finite.
        rejected: rejected steps.
        trail: θ after each of the marked meta-steps [marks, …]; `()` without marks.
    """

    optimizer: Any
    losses: Float[Array, "..."]
    nonfinite: Int[Array, "..."]
    rejected: Int[Array, "..."]
    trail: Theta


class Outcome(NamedTuple):
    """Result of a cell, one entry a point.

    Attributes:
        theta: learned θ.
        metrics: by name, mean metrics of held-out lifetimes, and totals of meta-training.
        curve: primary metric after each of the marked meta-steps.
        seconds: time of compiling, meta-training and evaluation since the cell was last resumed, and of a meta-step of
            one point.
    """

    theta: Theta
    metrics: dict[str, Float[np.ndarray, " points"]]
    curve: Float[np.ndarray, "points marks"]
    seconds: dict[str, float]


# Called with the share of the cell that is done.
Progress = Callable[[float], None]


def run_cell(cell: Cell, folder: Path, stop: StopRequest, progress: Progress) -> bool:
    """Run a cell from its last checkpoint, and publish its result in `done`, whole or not at all.

    Args:
        cell: the cell.
        folder: folder of the cell, which this process has locked.
        stop: request to stop, which is checked between calls; everything is saved before it is answered.
        progress: told the share that is done.

    Returns:
        Whether the result was published; if not, one was there already.

    Raises:
        Stopped: on request.
    """
    states = folder / CHECKPOINTS
    record_environment(folder)
    try:
        outcome = solve(cell, states, stop, progress)
    except ConfigError:  # a dying process has left a damaged checkpoint
        shutil.rmtree(states)
        outcome = solve(cell, states, stop, progress)
    work = folder / f"work-{uuid.uuid4().hex}"
    work.mkdir()
    _write(cell, outcome, work)
    finished = publish(work, folder / DONE)
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(states, ignore_errors=True)
    return finished


def solve(cell: Cell, states: Path, stop: StopRequest, progress: Progress) -> Outcome:
    """Meta-train every point of a cell, and evaluate the learned rules on held-out tasks.

    Args:
        cell: the cell.
        states: directory of its checkpoints.
        stop: request to stop.
        progress: told the share that is done.

    Returns:
        The result.

    Raises:
        ConfigError: a checkpoint that is damaged.
        Stopped: on request.
    """
    experiment, data = cell.experiment, _data(cell)
    plan, steps = phases(experiment.optimizer, experiment.lifetime), total_steps(experiment.optimizer)
    started = compiled = time.perf_counter()

    def enter(before: Phase, phase: Phase, state: State) -> State:
        return _enter(experiment, cell.fields, plan.index(before), plan.index(phase), *data, state)

    def move(phase: Phase, state: State, step: int, count: int) -> tuple[State, None]:
        common = _resolved(cell, phase)
        moved = _advance(common, cell.fields, plan.index(phase), cell.marks, *data, state, step, count)
        return jax.block_until_ready(moved), None

    with Checkpoints(states) as checkpoints:
        start = _begin(experiment, cell.fields, len(cell.marks), *data)
        resumed, state = restore(checkpoints, plan, start, enter)
        calls = drive(plan, resumed, state, enter, move, checkpoints, stop, experiment.run)
        for _, step, state, _, count in calls:  # noqa: B007 (the last state is the result)
            compiled = compiled if count else time.perf_counter()
            progress(step / steps)
    trained = time.perf_counter()
    theta, metrics, curve = jax.block_until_ready(_evaluate(experiment, cell.fields, *data, state))
    seconds = {"compile": compiled - started, "meta_training": trained - compiled}
    seconds["held_out"] = time.perf_counter() - trained
    if steps > resumed:
        seconds["meta_step"] = seconds["meta_training"] / (steps - resumed) / len(cell.points)
    return Outcome(theta, _with_totals(metrics, theta, state), np.asarray(curve), seconds)


def measure(cell: Cell) -> tuple[float, float]:
    """Time a few meta-steps of a cell.

    Args:
        cell: the cell.

    Returns:
        (seconds to compile, seconds for each step of a lifetime that is differentiated).
    """
    experiment, data = cell.experiment, _data(cell)
    phase = phases(experiment.optimizer, experiment.lifetime)[0]
    clock = [time.perf_counter()]
    state = _begin(experiment, cell.fields, len(cell.marks), *data)
    for count in (0, _TIMED):
        moved = _advance(_resolved(cell, phase), cell.fields, 0, cell.marks, *data, state, 0, count)
        state = jax.block_until_ready(moved)
        clock.append(time.perf_counter())
    compiling, moving = np.diff(clock)
    share = 1 + _FORWARD * experiment.evaluation.lifetimes / lifetimes_of(experiment.optimizer)
    return float(compiling), float(moving) * share / (_TIMED * len(cell.points) * cell.steps_of(phase.learner))


def _with_totals(metrics: dict[str, Any], theta: Theta, state: State) -> dict[str, Any]:
    """Metrics of evaluation and totals of meta-training."""
    return {name: np.asarray(values) for name, values in metrics.items()} | {
        "meta_loss": np.asarray(state.losses)[:, -_LAST:].mean(axis=1),
        "nonfinite_lifetimes": np.asarray(state.nonfinite),
        "rejected_steps": np.asarray(state.rejected),
        "finite": np.all([_are_finite(leaf) for leaf in jax.tree.leaves(theta)], axis=0).astype(int),
    }


def _are_finite(leaf: Float[Array, "points ..."]) -> Bool[np.ndarray, " points"]:
    """For each point whether all of its numbers are finite."""
    return np.isfinite(np.asarray(leaf)).all(axis=tuple(range(1, leaf.ndim)))


def _resolved(cell: Cell, phase: Phase) -> Experiment:
    """Common part of the points, with an estimator for which there is memory for all of them."""
    common = cell.experiment
    return replace(common, optimizer=resolved(common.optimizer, phase.learner, runs=len(cell.points))[0])


def _batch_points(one: Callable[..., Any], *points: Any) -> Any:
    """Run a function for every point: devices share the points, or the lifetimes of each where there are few points.

    A single point is not vmapped, so that it is rounded as `metarule.train` rounds it.
    """
    count = len(points[0])
    if count > 1:
        return (batch_lifetimes(one, count) if count >= device_count() else jax.vmap(one))(*points)
    alone = one(*(jax.tree.map(lambda leaf: leaf[0], point) for point in points))
    return jax.tree.map(lambda leaf: leaf[None], alone)


def _data(cell: Cell) -> tuple[Int[Array, " points"], Float[Array, "points fields"]]:
    values = np.array(cell.values, float).reshape(len(cell.points), len(cell.fields))
    return jnp.array([point.seed for point in cell.points]), jnp.asarray(values)


def _learner(common: Experiment, fields: tuple[str, ...], values: Any) -> tuple[Lifetime, Any]:
    """Learner and optimiser of a point, with traced numbers where a field is data."""
    one = with_values(common, dict(zip(fields, values, strict=True)))
    return one.lifetime, one.optimizer


@sharded_jit("common", "fields", "marks")
def _begin(common: Experiment, fields: tuple[str, ...], marks: int, seeds: Any, values: Any) -> State:
    """Every point before its first meta-step."""

    def one(seed: Integer, values: Any) -> State:
        lifetime, optimizer = _learner(common, fields, values)
        # A program of its own takes no traced numbers as static arguments; this function is one program anyway.
        state = inspect.unwrap(begin)(lifetime, optimizer, lifetime.tasks.split(seed).train, run_key(seed))
        theta = phases(optimizer, lifetime)[0].optimizer.theta(state)
        # A checkpoint cannot hold an array without elements.
        trail = jax.tree.map(lambda leaf: jnp.zeros((marks, *leaf.shape), leaf.dtype), theta) if marks else ()
        none = jnp.zeros((), int)
        return State(state, jnp.full(total_steps(common.optimizer), jnp.nan), none, none, trail)

    return _batch_points(one, seeds, values)


@sharded_jit("common", "fields", "before", "phase")
def _enter(
    common: Experiment, fields: tuple[str, ...], before: int, phase: int, seeds: Any, values: Any, state: State
) -> State:
    """Every point at the start of a phase with another optimiser."""

    def one(seed: Integer, values: Any, state: State) -> State:
        lifetime, optimizer = _learner(common, fields, values)
        plan, pool = phases(optimizer, lifetime), lifetime.tasks.split(seed).train
        theta = plan[before].optimizer.theta(state.optimizer)
        return state._replace(optimizer=start_phase(plan[phase], pool, theta, run_key(seed)))

    return _batch_points(one, seeds, values, state)


@sharded_jit("common", "fields", "phase", "marks")
def _advance(
    common: Experiment,
    fields: tuple[str, ...],
    phase: int,
    marks: tuple[int, ...],
    seeds: Any,
    values: Any,
    state: State,
    step: Integer,
    count: Integer,
) -> State:
    """Take some meta-steps of every point. Their number is data, so that one program serves every call."""

    def one(seed: Integer, values: Any, state: State) -> State:
        lifetime, optimizer = _learner(common, fields, values)
        now, pool = phases(optimizer, lifetime)[phase], lifetime.tasks.split(seed).train
        key = phase_key(now, run_key(seed))

        def move(number: Integer, state: State) -> State:
            after, info = now.optimizer.step(now.learner, pool, state.optimizer, key)
            losses = state.losses.at[number].set(info.loss)
            here = jnp.array(marks, int) == number + 1
            trail = jax.tree.map(partial(_mark, here), state.trail, now.optimizer.theta(after)) if marks else ()
            nonfinite, rejected = state.nonfinite + info.nonfinite_lifetimes, state.rejected + info.rejected
            return State(after, losses, nonfinite, rejected, trail)

        return jax.lax.fori_loop(step, step + count, move, state)

    return _batch_points(one, seeds, values, state)


def _mark(here: Bool[Array, " marks"], trail: Float[Array, "marks ..."], now: Float[Array, "..."]) -> Array:
    return jnp.where(here.reshape(-1, *(1,) * now.ndim), now, trail)


@sharded_jit("common", "fields")
def _evaluate(
    common: Experiment, fields: tuple[str, ...], seeds: Any, values: Any, state: State
) -> tuple[Theta, dict[str, Any], Float[Array, "points marks"]]:
    """θ, mean metrics and the curve of every point, over the held-out lifetimes that evaluate a run of its seed.

    The metrics include those of as many lifetimes on training tasks, and the largest Lyapunov exponent of some of
    these.
    """
    # A program of its own takes no traced numbers as static arguments; this function is one program anyway.
    curves, exponents = inspect.unwrap(learning_curves), inspect.unwrap(lyapunov_exponent)

    def one(seed: Integer, values: Any, state: State) -> tuple[Theta, dict[str, Any], Float[Array, " marks"]]:
        lifetime, optimizer = _learner(common, fields, values)
        theta = phases(optimizer, lifetime)[-1].optimizer.theta(state.optimizer)
        split, key, settings = lifetime.tasks.split(seed), run_key(seed), common.evaluation

        def held_out(theta: Theta) -> dict[str, Float[Array, ""]]:
            results = curves(lifetime, theta, split.test, stream(key, Purpose.HELD_OUT), settings.lifetimes, 1)
            return {name: jnp.mean(values[:, -1]) for name, values in results.metrics.items()}

        number = train_tasks_of(optimizer)
        tasks = None if number == "all" else number
        tuning_key, name = stream(key, Purpose.TUNING), primary_metric(lifetime.tasks)
        trained = curves(lifetime, theta, split.train, tuning_key, settings.lifetimes, 1, tasks)
        watch_key = stream(key, Purpose.MONITOR)
        largest = jnp.max(exponents(lifetime, theta, split.train, watch_key, settings.monitor_lifetimes))
        metrics = held_out(theta) | {f"training_{name}": jnp.mean(trained.metrics[name][:, -1])}
        metrics |= {"lyapunov_exponent": largest}
        if not jax.tree.leaves(state.trail):
            return theta, metrics, jnp.zeros(0)
        return theta, metrics, jax.lax.map(lambda theta: held_out(theta)[name], state.trail)

    return _batch_points(one, seeds, values, state)


def _write(cell: Cell, outcome: Outcome, work: Path) -> None:
    lifetime = cell.experiment.lifetime
    points = []
    for number, (point, values) in enumerate(zip(cell.points, cell.values, strict=True)):
        theta = jax.tree.map(lambda leaf, number=number: leaf[number], outcome.theta)
        scores = {name: scores[number] for name, scores in outcome.metrics.items()}
        data = dict(zip(cell.fields, values, strict=True))
        found = {
            "data": data,
            "metrics": scores,
            "curve": outcome.curve[number],
            "theta": flat_parameters(lifetime, theta),
        }
        points.append(point._asdict() | found)
    meaning = theta_meaning(lifetime) | {"points": [point._asdict() for point in cell.points]}
    save_theta(work, outcome.theta, meaning)
    installed = {one.name: one.version for one in sorted(distributions(), key=lambda one: one.name.lower())}
    write_json(work / "environment.json", environment() | {"packages": installed})
    spent = [lifetimes_of(cell.experiment.optimizer, step) for step in cell.marks]
    result = {"cell": cell.name, "points": points, "marks": cell.marks, "lifetimes": spent, "seconds": outcome.seconds}
    write_json(work / "result.json", result)
