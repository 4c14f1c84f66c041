"""Meta-training of one run in its directory."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta, Struct

from metarule.analysis.evaluation import learning_curves
from metarule.analysis.lyapunov import lyapunov_exponent
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.meta import GaussNewton
from metarule.meta.loop import advance, begin, enter
from metarule.meta.phases import Phase, advice, is_comparable, list_phases, phase_at
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import MetaOptimizer, Recorded
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.diagnosis import FIRST, HOPELESS, is_hopeless, trouble
from metarule.runs.directory import CHECKPOINTS, check_ownership, experiment_hash
from metarule.runs.driver import drive, restore
from metarule.runs.experiment import Experiment
from metarule.runs.files import convert
from metarule.runs.locks import holder
from metarule.runs.metrics import METRICS, append_metrics, read_metrics, truncate_metrics
from metarule.runs.stopping import Diverged, StopRequest
from metarule.runs.theta_files import THETA, flat_parameters, given_theta, theta_meaning, write_theta
from metarule.runs.validation import (
    VALIDATION,
    Pools,
    best_mark,
    is_over,
    pools_of,
    reported_theta,
    save_best,
    validate,
)
from metarule.types import Info, Theta

__all__ = ["Log", "Progress", "Trained", "train"]

Progress = Callable[[int, dict[str, Any]], None]
Rows: TypeAlias = list[dict[str, Any]]
Log = Callable[[Rows], None]


class Trained(NamedTuple):
    """Result of meta-training.

    Attributes:
        theta: the learned θ.
        initial: θ before the first meta-step.
        steps: meta-steps that were taken.
        seconds: time of compiling and of meta-training, since the run was last resumed.
    """

    theta: Theta
    initial: Theta
    steps: int
    seconds: dict[str, float]


def _ignore(rows: Rows) -> None:
    pass


def train(experiment: Experiment, path: Path, stop: StopRequest, progress: Progress, log: Log = _ignore) -> Trained:
    """Move θ from its state in the run directory to the last meta-step.

    Args:
        experiment: the experiment.
        path: its directory, laid out by `start_run`.
        stop: request to stop, which is checked between calls; everything is saved before it is answered.
        progress: receives the number of meta-steps and the last row of the metrics after each call.
        log: receives the rows up to the meta-step at which the run begins or continues, then those of each call.

    Raises:
        Stopped: on request.
        Diverged: no lifetime of many meta-steps was usable; the last good θ is saved.
        ConfigError: checkpoints or metrics that are damaged or lost.
        OSError: a disk that cannot be written.
    """
    lifetime, monitor_every = experiment.lifetime, experiment.evaluation.monitor_every
    key, pools, owner = run_key(experiment.seed), pools_of(experiment), holder(path)
    started = compiled = time.perf_counter()
    plan = list_phases(experiment.optimizer, lifetime)
    start = begin(lifetime, experiment.optimizer, pools.train, key, given_theta(path, lifetime))
    initial = _theta(plan[0].optimizer, start)

    def enter_phase(before: Phase, phase: Phase, state: Any) -> Any:
        return enter(before, phase, pools.train, state, key)

    def move(phase: Phase, state: Any, step: int, count: int) -> tuple[Any, Info]:
        return jax.block_until_ready(advance(phase, pools.train, state, key, count, experiment.run.steps_per_call))

    checkpoints = Checkpoints(path / CHECKPOINTS, experiment_hash(path))
    step, state = restore(checkpoints, plan, start, enter_phase)
    rows = _rows_up_to(path, experiment, step)
    log(rows)
    first, recent, marks = rows[:FIRST], rows[-HOPELESS:], [row for row in rows if VALIDATION in row]
    is_ended = is_hopeless(recent) or is_over(experiment, marks)
    calls = drive(plan, step, state, enter_phase, move, checkpoints, stop, experiment.run, (monitor_every,))
    for phase, step, state, infos, count in () if is_ended else calls:
        if not count:
            compiled = time.perf_counter()
            progress(step, {})
            continue
        rows = _rows(lifetime, step - count, infos, count)
        first, recent = [*first, *rows][:FIRST], [*recent, *rows][-HOPELESS:]
        is_monitored = step % monitor_every == 0 or step == plan[-1].end
        if is_monitored:
            _score(experiment, path, pools, _theta(phase.optimizer, state), rows[-1], marks)
            rows[-1] |= _diagnose(experiment, first, recent)
        check_ownership(path, owner)
        append_metrics(path, rows)
        log(rows)
        progress(step, rows[-1])
        if is_monitored and (is_hopeless(recent) or is_over(experiment, marks)):
            checkpoints.save(step, state)
            break
    seconds = {"compile": compiled - started, "meta_training": time.perf_counter() - compiled}
    last = _theta(phase_at(plan, step - 1).optimizer, state)
    if is_hopeless(recent):
        _give_up(path, lifetime, last)
    return Trained(reported_theta(experiment, path, marks, last), initial, step, seconds)


def _score(
    experiment: Experiment, path: Path, pools: Pools, theta: Theta, row: dict[str, Any], marks: list[dict[str, Any]]
) -> None:
    """Add the scores of θ to a row, and the row to the validated ones; store θ if it is the best so far."""
    if not isinstance(experiment.tasks, Recorded):  # which are scored in the report
        row |= _monitor(experiment, theta)
    row |= validate(experiment, theta, pools)
    if VALIDATION in row:
        marks.append(row)
        if best_mark(experiment, marks) is row:
            save_best(experiment, path, theta, row)


@partial(jax.jit, static_argnums=0)
def _theta(optimizer: MetaOptimizer, state: Any) -> Theta:
    """θ of a state, in its own memory."""
    return jax.tree.map(jnp.copy, optimizer.theta(state))


def _rows_up_to(path: Path, experiment: Experiment, step: int) -> Rows:
    """Rows of the metrics up to the meta-step at which a run continues; later ones are dropped."""
    if not step and (taken := len(read_metrics(path))):
        if taken > 2 * experiment.run.checkpoint_every:  # the first checkpoint had been written by then
            where = path / CHECKPOINTS
            raise ConfigError(f"{where}: no checkpoint is left of {taken} meta-steps; start anew with --overwrite")
        message = "it was stopped before the first checkpoint; starting again at meta-step 1"
        print(f"{path}: {message}", file=sys.stderr)
    rows = truncate_metrics(path, step)
    file, parameters = path / METRICS, len(theta_meaning(experiment.lifetime)["names"])
    checked: list[_Row] = convert(file, rows, list[_Row])
    if any(len(row.theta) != parameters for row in checked):
        raise ConfigError(f"{file}: damaged: θ of another rule, which has {parameters} numbers")
    return rows


def _diagnose(experiment: Experiment, first: Rows, recent: Rows) -> dict[str, str]:
    """Message about a run in trouble, if it is."""
    optimizer = experiment.optimizer
    if isinstance(optimizer, GaussNewton):  # which rejects steps to find its damping
        return {}
    bound = f"--inner_loop.weight_bound below {experiment.inner_loop.weight_bound:g}"
    settings = " or ".join((bound, *advice(optimizer, experiment.lifetime)))
    message = trouble(first if is_comparable(optimizer) else (), recent, settings)
    return {"trouble": message} if message else {}


def _give_up(path: Path, lifetime: Lifetime, theta: Theta) -> None:
    write_theta(path, lifetime, theta)
    problem = f"no lifetime of the last {HOPELESS} meta-steps had a useful gradient"
    raise Diverged(f"{problem}; the last good theta, or the initial one, is in {path / THETA}")


class _Exponent(Struct):
    largest: float | None


class _Row(Struct):  # of the metrics, whose file anybody may have changed
    loss: float | None
    lifetimes: Annotated[int, Meta(ge=1)]
    nonfinite_lifetimes: int
    zero_gradient_lifetimes: int
    rejected: bool
    theta: tuple[float | None, ...]
    lyapunov_exponent: _Exponent | None = None
    validation: dict[str, float | None] | None = None


@partial(jax.jit, static_argnums=0)
def _parameter_values(lifetime: Lifetime, theta: Theta) -> Float[Array, "steps parameters"]:
    """Named parameters of one θ a meta-step, in the order of their names."""
    return jax.vmap(lambda one: jnp.array(list(flat_parameters(lifetime, one).values())))(theta)


def _rows(lifetime: Lifetime, step: int, infos: Info, count: int) -> Rows:
    """One row a meta-step, of the `count` meta-steps after `step`."""
    values = infos._replace(theta=_parameter_values(lifetime, infos.theta))
    columns = jax.tree.map(lambda leaf: np.asarray(leaf)[:count].tolist(), values)._asdict()
    loss, metrics, observed = (columns.pop(name) for name in ("loss", "metrics", "observed"))
    columns = {"step": range(step + 1, step + count + 1), "loss": loss} | metrics | observed | columns
    return [dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)]


def _monitor(experiment: Experiment, theta: Theta) -> dict[str, dict[str, float]]:
    """Metrics on held-out tasks, and Lyapunov exponents of lifetimes on training tasks."""
    key, lifetimes = stream(run_key(experiment.seed), Purpose.MONITOR), experiment.evaluation.monitor_lifetimes
    lifetime, split = experiment.lifetime, experiment.split
    curves = jax.device_get(learning_curves(lifetime, theta, split.test, key, lifetimes, 1))
    exponents = np.asarray(lyapunov_exponent(lifetime, theta, split.train, key, lifetimes))
    return {
        "held_out": {name: float(values[:, -1].mean()) for name, values in curves.metrics.items()},
        "lyapunov_exponent": {"median": float(np.median(exponents)), "largest": float(exponents.max())},
    }
