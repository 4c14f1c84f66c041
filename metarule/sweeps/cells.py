"""Run a cell: meta-training and held-out scores of many points in one compiled program."""

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
from metarule.meta.loop import begin, phase_at
from metarule.parallel.batching import batch_lifetimes, device_count
from metarule.parallel.devices import sharded_jit
from metarule.prng import Purpose, run_key, stream
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.directory import CHECKPOINTS
from metarule.runs.environment import environment, record_environment
from metarule.runs.experiment import Experiment
from metarule.runs.files import write_json
from metarule.runs.stopping import StopRequest
from metarule.runs.theta_files import save_theta
from metarule.runs.training import meaning, named
from metarule.sweeps.claims import Claim, publish
from metarule.sweeps.plan import Cell, with_values
from metarule.types import Integer, Learner, MetaOptimizer, Theta

__all__ = ["DONE", "Outcome", "State", "measure", "run_cell", "solve"]

DONE = "done"
# Last meta-steps over which the meta-loss is averaged, as in the summary of a run: one alone is mostly luck.
_ENDS = 10
# Meta-steps that are timed for an estimate, and what a step costs where nothing is differentiated.
_TIMED = 2
_FORWARD = 0.3


class State(NamedTuple):
    """Where a point is; in a cell each array has a leading axis over its points.

    Attributes:
        optimizer: state of what moves θ.
        losses: meta-loss of each meta-step that was taken [steps].
        nonfinite: lives left out because their loss or gradient was not finite.
        rejected: meta-steps after which the step before was taken back.
        trail: θ after each of the meta-steps after which the point is scored [marks, …]; `()` where there are none.
    """

    optimizer: Any
    losses: Float[Array, "..."]
    nonfinite: Int[Array, "..."]
    rejected: Int[Array, "..."]
    trail: Theta


class Outcome(NamedTuple):
    """What a cell comes to, one entry a point.

    Attributes:
        theta: learned θ.
        metrics: by name, mean scores over held-out lifetimes, and what meta-training came to.
        curve: the score after each of the meta-steps that the cell marks.
        seconds: what compiling, meta-training and judging took, since the cell was last resumed, and what a meta-step
            of one point did.
    """

    theta: Theta
    metrics: dict[str, Float[np.ndarray, " points"]]
    curve: Float[np.ndarray, "points marks"]
    seconds: dict[str, float]


# Called with the share of the cell that is done.
Progress = Callable[[float], None]


def run_cell(cell: Cell, folder: Path, claim: Claim, stop: StopRequest, progress: Progress) -> bool:
    """Run a cell from where its folder has it, and put what it comes to in `done`, whole or not at all.

    Args:
        cell: what to run.
        folder: of the cell.
        claim: on the folder.
        stop: looked at between calls; everything is saved before it is answered.
        progress: told how far the cell is.

    Returns:
        Whether this process finished the cell; else another did, in the time in which it was not heard from.

    Raises:
        Lost: the claim was taken over.
        Stopped: on request.
    """
    states = folder / CHECKPOINTS
    record_environment(folder)
    try:
        outcome = solve(cell, states, claim.check, stop, progress)
    except ConfigError:  # a checkpoint that a dying process left damaged: the cell is in progress no longer
        shutil.rmtree(states)
        outcome = solve(cell, states, claim.check, stop, progress)
    work = folder / f"work-{uuid.uuid4().hex}"
    work.mkdir()
    _write(cell, outcome, work)
    claim.check()
    finished = publish(work, folder / DONE)
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(states, ignore_errors=True)
    return finished


def solve(cell: Cell, states: Path, check: Callable[[], None], stop: StopRequest, progress: Progress) -> Outcome:
    """Meta-train every point of a cell, and score the learned rules on held-out tasks.

    Args:
        cell: what to run.
        states: directory of its checkpoints, from the last of which it goes on.
        check: called before anything is written.
        stop: looked at between calls.
        progress: told how far the cell is.

    Returns:
        What it comes to.

    Raises:
        ConfigError: a checkpoint that is damaged.
        Stopped: on request.
    """
    experiment, (seeds, values) = cell.experiment, _data(cell)
    run, steps = experiment.run, experiment.optimizer.steps
    phase = partial(phase_at, experiment.lifetime, experiment.optimizer)

    def move(state: State, step: int, count: int) -> State:
        common = _fitted(cell, phase(step).learner)
        where = (seeds, values, phase(step).end, cell.marks, state)
        return jax.block_until_ready(_advance(common, cell.fields, *where, step, count))

    clock = [time.perf_counter()]
    with Checkpoints(states) as checkpoints:
        step, state = checkpoints.restore(_begin(experiment, cell.fields, seeds, values, len(cell.marks)))
        resumed = step
        if step < steps:
            move(state, step, 0)
        clock.append(time.perf_counter())
        while step < steps:
            if stop.requested:
                check()
                checkpoints.save(step, state)
                stop.answer(step)
            until_next = run.checkpoint_every - step % run.checkpoint_every
            count = min(run.steps_per_call, phase(step).end - step, until_next)
            state = move(state, step, count)
            step += count
            if step % run.checkpoint_every == 0 or step == steps:
                check()
                checkpoints.save(step, state)
            progress(step / steps)
    clock.append(time.perf_counter())
    theta, scores, curve = jax.block_until_ready(_score(experiment, cell.fields, seeds, values, state))
    clock.append(time.perf_counter())
    metrics = {name: np.asarray(score) for name, score in scores.items()}
    metrics["meta_loss"] = np.asarray(state.losses)[:, -_ENDS:].mean(axis=1)
    metrics["nonfinite_lifetimes"] = np.asarray(state.nonfinite)
    metrics["rejected_steps"] = np.asarray(state.rejected)
    metrics["finite"] = np.all([_are_finite(leaf) for leaf in jax.tree.leaves(theta)], axis=0).astype(int)
    seconds = dict(zip(("compile", "meta_training", "held_out"), map(float, np.diff(clock))))
    if steps > resumed:
        seconds["meta_step"] = seconds["meta_training"] / (steps - resumed) / len(cell.points)
    return Outcome(theta, metrics, np.asarray(curve), seconds)


def _are_finite(leaf: Float[Array, "points ..."]) -> Bool[np.ndarray, " points"]:
    """For each point whether all of its numbers are finite."""
    return np.isfinite(np.asarray(leaf)).all(axis=tuple(range(1, leaf.ndim)))


def measure(cell: Cell) -> tuple[float, float]:
    """Time a few meta-steps of a cell.

    Args:
        cell: what would run.

    Returns:
        (seconds to compile, seconds for each step that is lived and differentiated through).
    """
    experiment, (seeds, values) = cell.experiment, _data(cell)
    learner = phase_at(experiment.lifetime, experiment.optimizer, 0).learner
    end = phase_at(experiment.lifetime, experiment.optimizer, 0).end
    move = partial(_advance, _fitted(cell, learner), cell.fields, seeds, values, end, cell.marks)
    clock = [time.perf_counter()]
    state = _begin(experiment, cell.fields, seeds, values, len(cell.marks))
    for count in (0, _TIMED):
        state = jax.block_until_ready(move(state, 0, count))
        clock.append(time.perf_counter())
    compiling, moving = np.diff(clock)
    share = 1 + _FORWARD * experiment.evaluation.lifetimes / experiment.optimizer.lifetimes
    return float(compiling), float(moving) * share / (_TIMED * len(cell.points) * cell.lived(learner))


def _fitted(cell: Cell, learner: Learner) -> Experiment:
    """What the points have in common, with a way to the gradient for which there is memory for all of them."""
    common = cell.experiment
    optimizer, _ = common.optimizer.decided(learner, runs=len(cell.points))
    return replace(common, optimizer=optimizer)


def _side_by_side(one: Callable[..., Any], *points: Any) -> Any:
    """Run something for every point: devices share the points, or the lifetimes of each where there are few points.

    One alone is not vmapped, for then it is rounded as `metarule.train` rounds it.
    """
    count = len(points[0])
    if count > 1:
        return (batch_lifetimes(one, count) if count >= device_count() else jax.vmap(one))(*points)
    alone = one(*(jax.tree.map(lambda leaf: leaf[0], point) for point in points))
    return jax.tree.map(lambda leaf: leaf[None], alone)


def _data(cell: Cell) -> tuple[Int[Array, " points"], Float[Array, "points fields"]]:
    values = np.array(cell.values, float).reshape(len(cell.points), len(cell.fields))
    return jnp.array([point.seed for point in cell.points]), jnp.asarray(values)


def _experiment(common: Experiment, fields: tuple[str, ...], values: Any) -> tuple[Lifetime, MetaOptimizer]:
    """Who lives, and what moves θ, with traced numbers where a field is data."""
    one = with_values(common, dict(zip(fields, values, strict=True)))
    return one.lifetime, one.optimizer


@sharded_jit("common", "fields", "marks")
def _begin(common: Experiment, fields: tuple[str, ...], seeds: Any, values: Any, marks: int) -> State:
    """Every point before its first meta-step."""

    def one(seed: Integer, values: Any) -> State:
        lifetime, optimizer = _experiment(common, fields, values)
        # As in `_score`: a program of its own takes no traced numbers.
        state = inspect.unwrap(begin)(lifetime, optimizer, lifetime.tasks.split(seed).train, run_key(seed))
        theta = optimizer.theta(state)
        # No checkpoint can hold an array without elements.
        trail = jax.tree.map(lambda leaf: jnp.zeros((marks, *leaf.shape), leaf.dtype), theta) if marks else ()
        none = jnp.zeros((), int)
        return State(state, jnp.full(common.optimizer.steps, jnp.nan), none, none, trail)

    return _side_by_side(one, seeds, values)


@sharded_jit("common", "fields", "end", "marks")
def _advance(
    common: Experiment,
    fields: tuple[str, ...],
    seeds: Any,
    values: Any,
    end: int,
    marks: tuple[int, ...],
    state: State,
    step: Integer,
    count: Integer,
) -> State:
    """Some meta-steps of every point, in the stage of an end. Their number is data: one program serves every call."""

    def one(seed: Integer, values: Any, state: State) -> State:
        lifetime, optimizer = _experiment(common, fields, values)
        phase, pool = phase_at(lifetime, optimizer, end - 1), lifetime.tasks.split(seed).train
        key = stream(run_key(seed), Purpose.META_STEPS)

        def move(number: Integer, state: State) -> State:
            after, info = phase.optimizer.step(phase.learner, pool, state.optimizer, key)
            losses = state.losses.at[number].set(info.loss)
            here = jnp.array(marks, int) == number + 1
            trail = jax.tree.map(partial(_mark, here), state.trail, optimizer.theta(after)) if marks else ()
            nonfinite, rejected = state.nonfinite + info.nonfinite_lifetimes, state.rejected + info.rejected
            return State(after, losses, nonfinite, rejected, trail)

        return jax.lax.fori_loop(step, step + count, move, state)

    return _side_by_side(one, seeds, values, state)


def _mark(here: Bool[Array, " marks"], trail: Float[Array, "marks ..."], now: Float[Array, "..."]) -> Array:
    return jnp.where(here.reshape(-1, *(1,) * now.ndim), now, trail)


@sharded_jit("common", "fields")
def _score(
    common: Experiment, fields: tuple[str, ...], seeds: Any, values: Any, state: State
) -> tuple[Theta, dict[str, Any], Float[Array, "points marks"]]:
    """θ, mean scores and the curve of every point, over the held-out lifetimes that a run of its seed is judged by.

    Among the scores are that on as many lifetimes on training tasks, and the `growth` of a disturbance in the most chaotic
    of some of these.
    """
    # Traced numbers cannot be static arguments; this whole function is one program in any case.
    look, grow = inspect.unwrap(learning_curves), inspect.unwrap(lyapunov_exponent)

    def one(seed: Integer, values: Any, state: State) -> tuple[Theta, dict[str, Any], Float[Array, " marks"]]:
        lifetime, optimizer = _experiment(common, fields, values)
        theta, split, key = optimizer.theta(state.optimizer), lifetime.tasks.split(seed), run_key(seed)
        settings, name = common.evaluation, lifetime.tasks.score

        def held_out(theta: Theta) -> dict[str, Float[Array, ""]]:
            count = look(lifetime, theta, split.test, stream(key, Purpose.HELD_OUT), settings.lifetimes, 1)
            return {name: jnp.mean(values[:, -1]) for name, values in count.metrics.items()}

        met = None if optimizer.train_tasks == "all" else optimizer.train_tasks
        trained = look(lifetime, theta, split.train, stream(key, Purpose.TUNING), settings.lifetimes, 1, met)
        grown = grow(lifetime, theta, split.train, stream(key, Purpose.WATCH), settings.monitor_lifetimes)
        scores = held_out(theta)
        scores |= {f"training_{name}": jnp.mean(trained.metrics[name][:, -1]), "lyapunov_exponent": jnp.max(grown)}
        if not jax.tree.leaves(state.trail):
            return theta, scores, jnp.zeros(0)
        return theta, scores, jax.lax.map(lambda theta: held_out(theta)[name], state.trail)

    return _side_by_side(one, seeds, values, state)


def _write(cell: Cell, outcome: Outcome, work: Path) -> None:
    lifetime = cell.experiment.lifetime
    points = []
    for number, (point, values) in enumerate(zip(cell.points, cell.values, strict=True)):
        theta = jax.tree.map(lambda leaf, number=number: leaf[number], outcome.theta)
        scores = {name: scores[number] for name, scores in outcome.metrics.items()}
        data = dict(zip(cell.fields, values, strict=True))
        found = {"data": data, "metrics": scores, "curve": outcome.curve[number], "theta": named(lifetime, theta)}
        points.append(point._asdict() | found)
    whose = meaning(lifetime) | {"points": [point._asdict() for point in cell.points]}
    save_theta(work, outcome.theta, whose)
    installed = {one.name: one.version for one in sorted(distributions(), key=lambda one: one.name.lower())}
    write_json(work / "environment.json", environment() | {"packages": installed})
    spent = [cell.experiment.optimizer.spent(step) for step in cell.marks]
    result = {"cell": cell.name, "points": points, "marks": cell.marks, "lifetimes": spent, "seconds": outcome.seconds}
    write_json(work / "result.json", result)
