"""Meta-training of one run in its directory."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta, Struct

from metarule.analysis.evaluation import learning_curves
from metarule.analysis.lyapunov import lyapunov_exponent
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.meta.loop import advance, begin, enter
from metarule.meta.phases import Phase, advice, is_comparable, phase_at, phases
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import MetaOptimizer
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.diagnosis import FIRST, HOPELESS, is_hopeless, trouble
from metarule.runs.directory import CHECKPOINTS, check_ownership, experiment_hash
from metarule.runs.driver import Moves, drive, state_at
from metarule.runs.experiment import Experiment
from metarule.runs.locks import holder
from metarule.runs.metrics import METRICS, append_metrics, read_metrics, truncate_metrics
from metarule.runs.stopping import Diverged, StopRequest
from metarule.runs.theta_files import THETA, save_theta
from metarule.types import Info, Theta

__all__ = ["Progress", "Trained", "flat_parameters", "theta_meaning", "train", "write_theta"]

# Called with the number of meta-steps and the last row of the metrics, after each jitted call.
Progress = Callable[[int, dict[str, Any]], None]
Rows: TypeAlias = list[dict[str, Any]]


class Trained(NamedTuple):
    """Result of meta-training.

    Attributes:
        theta: the learned θ.
        initial: θ before the first meta-step.
        seconds: time of compiling and of meta-training, since the run was last resumed.
    """

    theta: Theta
    initial: Theta
    seconds: dict[str, float]


def train(experiment: Experiment, path: Path, stop: StopRequest, progress: Progress) -> Trained:
    """Move θ from its state in the run directory to the last meta-step.

    Args:
        experiment: the experiment.
        path: its directory, laid out by `start_run`.
        stop: request to stop, which is checked between calls; everything is saved before it is answered.
        progress: told the number of meta-steps.

    Returns:
        The learned θ.

    Raises:
        Stopped: on request.
        Diverged: no lifetime of many meta-steps was useful; the last good θ is saved.
        ConfigError: checkpoints or metrics that are damaged or lost.
        OSError: a disk that cannot be written.
    """
    lifetime, run = experiment.lifetime, experiment.run
    key, pool = run_key(experiment.seed), experiment.split.train
    started = compiled = time.perf_counter()
    plan = phases(experiment.optimizer, lifetime)
    start = begin(lifetime, experiment.optimizer, pool, key)
    initial = _theta(plan[0].optimizer, start)
    owner = holder(path)
    first: Rows = []
    recent: Rows = []
    with Checkpoints(path / CHECKPOINTS, experiment_hash(path)) as checkpoints:

        def enter_phase(before: Phase, phase: Phase, state: Any) -> Any:
            return enter(before, phase, pool, state, key)

        def move(phase: Phase, state: Any, step: int, count: int) -> tuple[Any, Info]:
            return jax.block_until_ready(advance(phase, pool, state, key, count, run.steps_per_call))

        def observe(phase: Phase, step: int, state: Any, infos: Info, count: int) -> None:
            nonlocal compiled, first, recent
            if not count:
                compiled = time.perf_counter()
                progress(step, {})
                return
            rows = _rows(lifetime, step - count, infos, count)
            first, recent = [*first, *rows][:FIRST], [*recent, *rows][-HOPELESS:]
            is_monitored = step % experiment.evaluation.monitor_every == 0 or step == plan[-1].end
            if is_monitored:
                rows[-1] |= _monitor(experiment, _theta(phase.optimizer, state))
                rows[-1] |= _diagnose(experiment, first, recent)
            check_ownership(path, owner)
            append_metrics(path, rows)
            progress(step, rows[-1])
            if is_monitored and is_hopeless(recent):
                checkpoints.save(step, state)
                _give_up(path, lifetime, _theta(phase.optimizer, state))

        step, state = checkpoints.restore(partial(state_at, plan, start, enter_phase))
        rows = _rows_up_to(path, experiment, step)
        first, recent = rows[:FIRST], rows[-HOPELESS:]
        if is_hopeless(recent):
            _give_up(path, lifetime, _theta(phase_at(plan, max(step - 1, 0)).optimizer, state))
        moves = Moves(enter_phase, move, observe)
        marks = (experiment.evaluation.monitor_every,)
        state = drive(plan, step, state, moves, checkpoints, stop, run.steps_per_call, run.checkpoint_every, marks)
    seconds = {"compile": compiled - started, "meta_training": time.perf_counter() - compiled}
    return Trained(_theta(plan[-1].optimizer, state), initial, seconds)


def write_theta(path: Path, lifetime: Lifetime, theta: Theta) -> None:
    """Write θ into its run directory, with the meaning of its numbers."""
    described = {"equation": lifetime.equation(theta), "theta": flat_parameters(lifetime, theta)}
    save_theta(path, theta, theta_meaning(lifetime) | described)


def theta_meaning(lifetime: Lifetime) -> dict[str, Any]:
    """Meaning of the numbers of θ: the rule, and the names of its parameters in order.

    Args:
        lifetime: the learner.

    Returns:
        The part of a θ file that is checked when it is read.
    """
    rule = lifetime.rule
    meaning = rule.meaning if isinstance(rule, Polynomial | MLP) else {"kind": type(rule).__name__}
    shapes = jax.eval_shape(lifetime.init_theta, run_key(0))
    names = flat_parameters(lifetime, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    return {"rule": meaning, "names": list(names)}


def flat_parameters(lifetime: Lifetime, theta: Theta) -> dict[str, Any]:
    """Named parameters in one level, as in `{"projection 1: pre*post": …}`."""
    flat: dict[str, Any] = {}
    for name, value in lifetime.describe(theta).items():
        is_group = isinstance(value, Mapping)
        flat |= {f"{name}: {term}": number for term, number in value.items()} if is_group else {name: value}
    return flat


@partial(jax.jit, static_argnums=0)
def _theta(optimizer: MetaOptimizer, state: Any) -> Theta:
    """θ of a state, in its own memory."""
    return jax.tree.map(jnp.copy, optimizer.theta(state))


def _rows_up_to(path: Path, experiment: Experiment, step: int) -> Rows:
    """Rows of the metrics up to the meta-step at which a run continues; later ones are dropped."""
    taken = len(read_metrics(path))
    if not step and taken > 2 * experiment.run.checkpoint_every:  # the first checkpoint had been written by then
        where = path / CHECKPOINTS
        raise ConfigError(f"{where}: no checkpoint is left of {taken} meta-steps; start anew with --overwrite")
    if not step and taken:
        message = "it was stopped before the first checkpoint; starting again at meta-step 1"
        print(f"{path}: {message}", file=sys.stderr)
    truncate_metrics(path, step)
    rows = read_metrics(path)
    shapes = jax.eval_shape(experiment.lifetime.init_theta, run_key(0))
    parameters = len(jax.eval_shape(partial(flat_parameters, experiment.lifetime), shapes))
    file = path / METRICS
    try:
        checked = msgspec.convert(rows, list[_Row])
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: damaged: {error}") from error
    if any(len(row.theta) != parameters for row in checked):
        raise ConfigError(f"{file}: damaged: θ of another rule, which has {parameters} numbers")
    return rows


def _diagnose(experiment: Experiment, first: Sequence[dict[str, Any]], recent: Sequence[dict[str, Any]]) -> Any:
    """Message about a run in trouble, if it is."""
    optimizer = experiment.optimizer
    bound = f"--inner_loop.weight_bound below {experiment.inner_loop.weight_bound:g}"
    settings = " or ".join((bound, *advice(optimizer, experiment.lifetime)))
    message = trouble(first if is_comparable(optimizer) else (), recent, settings)
    return {"trouble": message} if message else {}


def _give_up(path: Path, lifetime: Lifetime, theta: Theta) -> None:
    write_theta(path, lifetime, theta)
    raise Diverged(
        f"no lifetime of the last {HOPELESS} meta-steps had a useful gradient; the last good theta, or the initial "
        f"one, is in {path / THETA}"
    )


class _Exponent(Struct):
    """Lyapunov exponents in a row of the metrics."""

    largest: float | None


class _Row(Struct):
    """A row of the metrics, whose file anybody may have changed."""

    loss: float | None
    lifetimes: Annotated[int, Meta(ge=1)]
    nonfinite_lifetimes: int
    zero_gradient_lifetimes: int
    rejected: bool
    theta: tuple[float | None, ...]
    lyapunov_exponent: _Exponent | None = None


@partial(jax.jit, static_argnums=0)
def _parameter_values(lifetime: Lifetime, theta: Theta) -> Float[Array, "steps parameters"]:
    """Named parameters of one θ a meta-step, in the order of their names."""
    return jax.vmap(lambda one: jnp.array(list(flat_parameters(lifetime, one).values())))(theta)


def _rows(lifetime: Lifetime, step: int, infos: Info, count: int) -> Rows:
    values = infos._replace(theta=_parameter_values(lifetime, infos.theta))
    plain = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), values)
    return [
        {
            "step": step + number + 1,
            "loss": plain.loss[number],
            **{name: values[number] for name, values in (plain.metrics | plain.observed).items()},
            "lifetimes": plain.lifetimes[number],
            "nonfinite_lifetimes": plain.nonfinite_lifetimes[number],
            "zero_gradient_lifetimes": plain.zero_gradient_lifetimes[number],
            "rejected": plain.rejected[number],
            "theta": plain.theta[number],
        }
        for number in range(count)
    ]


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
