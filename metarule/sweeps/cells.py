"""Cells of a sweep: meta-training and held-out metrics of many points in one compiled program."""

import inspect
import shutil
import time
import uuid
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from msgspec.structs import replace

from metarule.analysis.evaluation import learning_curves
from metarule.analysis.lyapunov import lyapunov_exponent
from metarule.config.toml import ConfigError
from metarule.meta.loop import begin, enter, phase_key
from metarule.meta.phases import Phase, lifetimes_of, list_phases, resolved, total_steps, train_tasks_of
from metarule.parallel.batching import batch_lifetimes, device_count
from metarule.parallel.devices import sharded_jit
from metarule.prng import Purpose, run_key, stream
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.directory import CHECKPOINTS
from metarule.runs.driver import drive, restore
from metarule.runs.environment import ENVIRONMENT, environment, record_environment
from metarule.runs.experiment import Experiment
from metarule.runs.files import write_json
from metarule.runs.members import member_name, write_member
from metarule.runs.stopping import StopRequest
from metarule.runs.sweep_files import DONE, RESULT
from metarule.runs.theta_files import flat_parameters, save_theta, theta_meaning
from metarule.sweeps.claims import publish
from metarule.sweeps.plan import Cell, with_values
from metarule.tasks.base import primary_metric
from metarule.types import Integer, Theta

__all__ = ["Outcome", "State", "measure", "run_cell", "solve"]

# Last meta-steps over which the meta-loss is averaged, as in the summary of a run, because one value is noisy.
_LAST = 10
# Meta-steps that are timed for an estimate, and cost of a step that is not differentiated.
_TIMED, _FORWARD = 2, 0.3


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
        stop: request to stop, checked between calls; the state is saved before it is answered.
        progress: called with the share that is done.

    Returns:
        True if the result was published; false if one was there already.

    Raises:
        Stopped: on request.
    """
    states = folder / CHECKPOINTS
    record_environment(folder)
    try:
        outcome = solve(cell, states, stop, progress)
    except ConfigError:  # a killed process has left a damaged checkpoint
        shutil.rmtree(states)
        outcome = solve(cell, states, stop, progress)
    work = folder / f"work-{uuid.uuid4().hex}"
    work.mkdir()
    _write(cell, outcome, work)
    is_published = publish(work, folder / DONE)
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(states, ignore_errors=True)
    return is_published


def solve(cell: Cell, states: Path, stop: StopRequest, progress: Progress) -> Outcome:
    """Meta-train every point of a cell, and evaluate the learned rules on held-out tasks.

    Args:
        cell: the cell.
        states: directory of its checkpoints.
        stop: as of `run_cell`.
        progress: as of `run_cell`.

    Raises:
        ConfigError: a checkpoint that is damaged.
        Stopped: on request.
    """
    experiment, data = cell.experiment, _data(cell)
    plan, steps = list_phases(experiment.optimizer, experiment.lifetime), total_steps(experiment.optimizer)
    commons = [_resolved(cell, phase) for phase in plan]
    started = compiled = time.perf_counter()

    def enter_phase(before: Phase, phase: Phase, state: State) -> State:
        return _program(_enter, (plan.index(before), plan.index(phase)), experiment, cell.fields, data, (), state)

    def move(phase: Phase, state: State, step: int, count: int) -> tuple[State, None]:
        number = plan.index(phase)
        return _moved(cell, number, commons[number], data, state, step, count), None

    checkpoints = Checkpoints(states)
    start = _program(_begin, (len(cell.marks),), experiment, cell.fields, data, ())
    resumed, state = restore(checkpoints, plan, start, enter_phase)
    calls = drive(plan, resumed, state, enter_phase, move, checkpoints, stop, experiment.run)
    for _, step, state, _, count in calls:  # noqa: B007 (the last state is the result)
        compiled = compiled if count else time.perf_counter()
        progress(step / steps)
    trained = time.perf_counter()
    evaluated = _program(_evaluate, (), experiment, cell.fields, data, (), state)
    theta, metrics, curve = jax.block_until_ready(evaluated)
    seconds = {"compile": compiled - started, "meta_training": trained - compiled}
    seconds["held_out"] = time.perf_counter() - trained
    if steps > resumed:
        seconds["meta_step"] = seconds["meta_training"] / (steps - resumed) / len(cell.points)
    finite = [np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in map(np.asarray, jax.tree.leaves(theta))]
    metrics |= {
        "meta_loss": np.asarray(state.losses)[:, -_LAST:].mean(axis=1),
        "nonfinite_lifetimes": state.nonfinite,
        "rejected_steps": state.rejected,
        "finite": np.all(finite, axis=0).astype(int),
    }
    return Outcome(theta, {name: np.asarray(one) for name, one in metrics.items()}, np.asarray(curve), seconds)


def measure(cell: Cell) -> tuple[float, float]:
    """Time a few meta-steps of a cell.

    Returns:
        (seconds to compile, seconds for each step of a lifetime that is differentiated).
    """
    experiment = cell.experiment
    phase = list_phases(experiment.optimizer, experiment.lifetime)[0]
    common, data = _resolved(cell, phase), _data(cell)
    clock = [time.perf_counter()]
    state = _program(_begin, (len(cell.marks),), experiment, cell.fields, data, ())
    for count in (0, _TIMED):
        state = _moved(cell, 0, common, data, state, 0, count)
        clock.append(time.perf_counter())
    compiling, moving = np.diff(clock)
    share = 1 + _FORWARD * experiment.evaluation.lifetimes / lifetimes_of(experiment.optimizer)
    return float(compiling), float(moving) * share / (_TIMED * len(cell.points) * cell.steps_of(phase.learner))


def _moved(cell: Cell, number: int, common: Experiment, data: Any, state: State, step: int, count: int) -> State:
    """State of a cell after some meta-steps of a phase, by its number and the common part of the points."""
    program = _program(_advance, (number, cell.marks), common, cell.fields, data, (step, count), state)
    return jax.block_until_ready(program)


def _resolved(cell: Cell, phase: Phase) -> Experiment:
    """Common part of the points, with an estimator for which there is memory for all of them."""
    common = cell.experiment
    return replace(common, optimizer=resolved(common.optimizer, phase.learner, runs=len(cell.points))[0])


def _data(cell: Cell) -> tuple[Int[Array, " points"], Float[Array, "points fields"]]:
    """Seed, and values of the data fields, of each point."""
    values = np.array(cell.values, float).reshape(len(cell.points), len(cell.fields))
    return jnp.array([point.seed for point in cell.points]), jnp.asarray(values)


@sharded_jit("function", "static", "common", "fields")
def _program(
    function: Callable[..., Any],
    static: tuple[Any, ...],
    common: Experiment,
    fields: tuple[str, ...],
    data: tuple[Any, Any],
    shared: tuple[Integer, ...],
    *states: State,
) -> Any:
    """Call `function(experiment, seed, *static, *shared, *states)` for every point, whose data fields are traced.

    Devices share the points, or the lifetimes of each where there are few points. A single point is not vmapped, so
    that it is rounded as `metarule train` rounds it.
    """

    def one(seed: Integer, values: Any, *states: State) -> Any:
        return function(with_values(common, dict(zip(fields, values, strict=True))), seed, *static, *shared, *states)

    points, count = (*data, *states), len(data[0])
    if count > 1:
        return (batch_lifetimes(one, count) if count >= device_count() else jax.vmap(one))(*points)
    return jax.tree.map(lambda leaf: leaf[None], one(*jax.tree.map(lambda leaf: leaf[0], points)))


# Functions of one point, which `_program` compiles. Those that they call are unwrapped, because a compiled function
# takes no traced numbers as static arguments.


def _begin(experiment: Experiment, seed: Integer, marks: int) -> State:
    """State of a point before its first meta-step."""
    lifetime, optimizer = experiment.lifetime, experiment.optimizer
    state = inspect.unwrap(begin)(lifetime, optimizer, lifetime.tasks.split(seed).train, run_key(seed))
    theta = list_phases(optimizer, lifetime)[0].optimizer.theta(state)
    trail = jax.tree.map(lambda leaf: jnp.zeros((marks, *leaf.shape), leaf.dtype), theta) if marks else ()
    none = jnp.zeros((), int)
    return State(state, jnp.full(total_steps(optimizer), jnp.nan), none, none, trail)


def _enter(experiment: Experiment, seed: Integer, before: int, phase: int, state: State) -> State:
    """State of a point at the start of a phase with another optimiser; phases are given by number."""
    lifetime = experiment.lifetime
    plan, pool = list_phases(experiment.optimizer, lifetime), lifetime.tasks.split(seed).train
    entered = inspect.unwrap(enter)(plan[before], plan[phase], pool, state.optimizer, run_key(seed))
    return state._replace(optimizer=entered)


def _advance(
    experiment: Experiment,
    seed: Integer,
    phase: int,
    marks: tuple[int, ...],
    step: Integer,
    count: Integer,
    state: State,
) -> State:
    """State of a point after some meta-steps. Their number is data, so that one program serves every call."""
    lifetime = experiment.lifetime
    now, pool = list_phases(experiment.optimizer, lifetime)[phase], lifetime.tasks.split(seed).train
    key = phase_key(now, run_key(seed))

    def move(number: Integer, state: State) -> State:
        after, info = now.optimizer.step(now.learner, pool, state.optimizer, key)
        is_mark = jnp.array(marks, int) == number + 1

        def marked(trail: Float[Array, "marks ..."], theta: Float[Array, "..."]) -> Float[Array, "marks ..."]:
            return jnp.where(is_mark.reshape(-1, *(1,) * theta.ndim), theta, trail)

        trail = jax.tree.map(marked, state.trail, now.optimizer.theta(after)) if marks else ()
        nonfinite, rejected = state.nonfinite + info.nonfinite_lifetimes, state.rejected + info.rejected
        return State(after, state.losses.at[number].set(info.loss), nonfinite, rejected, trail)

    return jax.lax.fori_loop(step, step + count, move, state)


def _evaluate(
    experiment: Experiment, seed: Integer, state: State
) -> tuple[Theta, dict[str, Float[Array, ""]], Float[Array, " marks"]]:
    """θ, mean metrics and the curve of a point, over the held-out lifetimes that evaluate a run of its seed.

    The metrics include the score of as many lifetimes on training tasks, and the largest Lyapunov exponent of some of
    these.
    """
    lifetime, settings = experiment.lifetime, experiment.evaluation
    theta = list_phases(experiment.optimizer, lifetime)[-1].optimizer.theta(state.optimizer)
    split, key, score = lifetime.tasks.split(seed), run_key(seed), primary_metric(lifetime.tasks)
    curves, exponents = inspect.unwrap(learning_curves), inspect.unwrap(lyapunov_exponent)

    def finals(theta: Theta, pool: Any, purpose: Purpose, tasks: Integer | None = None) -> dict[str, Float[Array, ""]]:
        results = curves(lifetime, theta, pool, stream(key, purpose), settings.lifetimes, 1, tasks)
        return {name: jnp.mean(values[:, -1]) for name, values in results.metrics.items()}

    number = train_tasks_of(experiment.optimizer)
    metrics = finals(theta, split.test, Purpose.HELD_OUT)
    trained = finals(theta, split.train, Purpose.TUNING, None if isinstance(number, str) else number)
    metrics[f"training_{score}"] = trained[score]
    monitor_key = stream(key, Purpose.MONITOR)
    largest = jnp.max(exponents(lifetime, theta, split.train, monitor_key, settings.monitor_lifetimes))
    metrics["lyapunov_exponent"] = largest
    if not jax.tree.leaves(state.trail):
        return theta, metrics, jnp.zeros(0)
    return theta, metrics, jax.lax.map(lambda one: finals(one, split.test, Purpose.HELD_OUT)[score], state.trail)


def _write(cell: Cell, outcome: Outcome, work: Path) -> None:
    """Write θ, the result and the environment of a cell, and its members."""
    lifetime, points = cell.experiment.lifetime, []
    save_theta(work, outcome.theta, theta_meaning(lifetime) | {"points": [point._asdict() for point in cell.points]})
    for number, (point, values) in enumerate(zip(cell.points, cell.values, strict=True)):
        theta = jax.tree.map(lambda leaf, number=number: leaf[number], outcome.theta)
        data = dict(zip(cell.fields, values, strict=True))
        metrics = {name: scores[number] for name, scores in outcome.metrics.items()}
        result = {"data": data, "metrics": metrics, "curve": outcome.curve[number]}
        points.append(point._asdict() | result | {"theta": flat_parameters(lifetime, theta)})
        label = cell.labels[number] if cell.labels else ""
        origin = {"cell": cell.name, "setting": label or point.setting}
        experiment = with_values(cell.experiment, data).of_seed(point.seed)
        write_member(work / member_name(point.setting, label, point.seed), experiment, theta, metrics, origin)
    installed = {one.name: one.version for one in sorted(distributions(), key=lambda one: one.name.lower())}
    write_json(work / ENVIRONMENT, environment() | {"packages": installed})
    spent = [lifetimes_of(cell.experiment.optimizer, step) for step in cell.marks]
    result = {"cell": cell.name, "points": points, "marks": cell.marks, "lifetimes": spent, "seconds": outcome.seconds}
    write_json(work / RESULT, result)
