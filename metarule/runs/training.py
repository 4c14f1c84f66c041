"""The host loop: from a seed, or from the last checkpoint of a run, to a learned θ."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

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
from metarule.meta.loop import advance, begin, phase_at
from metarule.prng import Purpose, run_key, stream
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.runs.checkpoints import Checkpoints
from metarule.runs.diagnosis import FIRST, HOPELESS, is_hopeless, trouble
from metarule.runs.directory import CHECKPOINTS, check_ownership, experiment_hash
from metarule.runs.experiment import Experiment
from metarule.runs.locks import holder
from metarule.runs.metrics import METRICS, append_metrics, read_metrics, truncate_metrics
from metarule.runs.stopping import Diverged, StopRequest
from metarule.runs.theta_files import THETA, save_theta
from metarule.types import Info, MetaOptimizer, Split, Theta

__all__ = ["Progress", "Trained", "meaning", "named", "train", "write_theta"]

# Called with the meta-steps taken and the last row of the metrics, whenever the loop comes up for air.
Progress = Callable[[int, dict[str, Any]], None]


class Trained(NamedTuple):
    """Outcome of meta-training.

    Attributes:
        theta: the learned θ.
        initial: θ before the first meta-step.
        seconds: time that compiling and meta-training took, since the run was last resumed.
    """

    theta: Theta
    initial: Theta
    seconds: dict[str, float]


def train(experiment: Experiment, path: Path, stop: StopRequest, progress: Progress) -> Trained:
    """Move θ from where the run directory has it to the last meta-step.

    Args:
        experiment: what to run.
        path: its directory, laid out by `start_run`.
        stop: looked at between calls; everything is saved before it is answered.
        progress: told how far the run is.

    Returns:
        The learned θ.

    Raises:
        Stopped: on request.
        Diverged: no lifetime of many meta-steps was of use; the last good θ is saved.
        ConfigError: checkpoints or metrics that are damaged or lost.
        OSError: a disk that cannot be written.
    """
    lifetime, optimizer, run = experiment.lifetime, experiment.optimizer, experiment.run
    key, split = run_key(experiment.seed), experiment.split
    move = partial(advance, pool=split.train, key=key, capacity=run.steps_per_call)
    clock = [time.perf_counter()]
    start = begin(lifetime, optimizer, split.train, key)
    initial = _theta(optimizer, start)
    before = holder(path)
    with Checkpoints(path / CHECKPOINTS, experiment_hash(path)) as checkpoints:
        step, state = checkpoints.restore(start)
        if not step:
            _tell_of_restart(path, run.checkpoint_every)
        truncate_metrics(path, step)
        rows = read_metrics(path)
        _check_rows(path, rows, len(jax.eval_shape(partial(named, lifetime), initial)))
        first, recent = rows[:FIRST], rows[-HOPELESS:]
        if is_hopeless(recent):
            _give_up(path, lifetime, _theta(optimizer, state))
        if step < optimizer.steps:
            phase = phase_at(lifetime, optimizer, step)
            state, _ = jax.block_until_ready(move(phase.learner, phase.optimizer, state=state, count=0))
        clock.append(time.perf_counter())
        progress(step, {})
        while step < optimizer.steps:
            if stop.requested:
                checkpoints.save(step, state)
                stop.answer(step)
            phase = phase_at(lifetime, optimizer, step)
            count = min(_until_next(experiment, step), phase.end - step)
            state, seen = move(phase.learner, phase.optimizer, state=state, count=count)
            rows = _rows(lifetime, step, seen, count)
            step += count
            first, recent = [*first, *rows][:FIRST], [*recent, *rows][-HOPELESS:]
            look = _due(step, experiment.evaluation.monitor_every, optimizer.steps)
            if look:
                rows[-1] |= _watch(experiment, _theta(optimizer, state), split)
                rows[-1] |= _diagnose(experiment, first, recent)
            check_ownership(path, before)
            append_metrics(path, rows)
            hopeless = look and is_hopeless(recent)
            if hopeless or _due(step, run.checkpoint_every, optimizer.steps):
                checkpoints.save(step, state)
            progress(step, rows[-1])
            if hopeless:
                _give_up(path, lifetime, _theta(optimizer, state))
    clock.append(time.perf_counter())
    seconds = dict(zip(("compile", "meta_training"), map(float, np.diff(clock))))
    return Trained(_theta(optimizer, state), initial, seconds)


def write_theta(path: Path, lifetime: Lifetime, theta: Theta) -> None:
    """Write θ into its run directory, with what its numbers mean."""
    told = {"equation": lifetime.equation(theta), "theta": named(lifetime, theta)}
    save_theta(path, theta, meaning(lifetime) | told)


def meaning(lifetime: Lifetime) -> dict[str, Any]:
    """What the numbers of θ mean: the rule that they are of, and their names in order.

    Args:
        lifetime: who lives under the rule.

    Returns:
        What a θ file says, and has to say where it is read.
    """
    rule = lifetime.rule
    said = rule.meaning if isinstance(rule, Polynomial | MLP) else {"kind": type(rule).__name__}
    shapes = jax.eval_shape(lifetime.theta, run_key(0))
    names = named(lifetime, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    return {"rule": said, "names": list(names)}


def named(lifetime: Lifetime, theta: Theta) -> dict[str, Any]:
    """The named numbers of θ in one level, as in `{"projection 1: pre*post": …}`."""
    flat: dict[str, Any] = {}
    for name, value in lifetime.describe(theta).items():
        inner = (
            {f"{name}: {term}": number for term, number in value.items()}
            if isinstance(value, Mapping)
            else {name: value}
        )
        flat.update(inner)
    return flat


@partial(jax.jit, static_argnums=0)
def _theta(optimizer: MetaOptimizer, state: Any) -> Theta:
    """θ of a state, in memory of its own."""
    return jax.tree.map(jnp.copy, optimizer.theta(state))


def _tell_of_restart(path: Path, every: int) -> None:
    """A run that has taken meta-steps and has no checkpoint begins again with a word, or not at all."""
    taken = len(read_metrics(path))
    if taken > 2 * every:  # by then the first one was on disk
        where = path / CHECKPOINTS
        raise ConfigError(f"{where}: no checkpoint is left of {taken} meta-steps; start anew with --overwrite")
    if taken:
        print(f"{path}: it was stopped before a checkpoint was kept; beginning again at meta-step 1", file=sys.stderr)


def _diagnose(
    experiment: Experiment, first: Sequence[dict[str, Any]], recent: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """What is wrong, if anything is."""
    optimizer = experiment.optimizer
    bound = f"--inner_loop.weight_bound below {experiment.inner_loop.weight_bound:g}"
    remedies = " or ".join((bound, *optimizer.remedies(experiment.lifetime)))
    found = trouble(first if optimizer.comparable else (), recent, remedies)
    return {"trouble": found} if found else {}


def _give_up(path: Path, lifetime: Lifetime, theta: Theta) -> None:
    write_theta(path, lifetime, theta)
    raise Diverged(
        f"no lifetime of the last {HOPELESS} meta-steps was of use, though theta was led towards 0; the last theta that "
        f"was good, or the first, is in {path / THETA}"
    )


class _Growth(Struct):
    """What is read of how chaotic lives were."""

    largest: float | None


class _Row(Struct):
    """What is read of the row of a meta-step, of whose file anybody may have changed a line."""

    loss: float | None
    lifetimes: Annotated[int, Meta(ge=1)]
    nonfinite_lifetimes: int
    zero_gradient_lifetimes: int
    rejected: bool
    theta: tuple[float | None, ...]
    lyapunov_exponent: _Growth | None = None


def _check_rows(path: Path, rows: Sequence[dict[str, Any]], numbers: int) -> None:
    try:
        found = msgspec.convert(rows, list[_Row])
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path / METRICS}: damaged: {error}") from error
    if any(len(row.theta) != numbers for row in found):
        raise ConfigError(f"{path / METRICS}: damaged: θ of another rule, which has {numbers} numbers")


def _until_next(experiment: Experiment, step: int) -> int:
    """Meta-steps until the loop has to come up for air: never past a look, a checkpoint or the end."""
    run = experiment.run
    marks = [every - step % every for every in (experiment.evaluation.monitor_every, run.checkpoint_every)]
    return min(run.steps_per_call, experiment.optimizer.steps - step, *marks)


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


@partial(jax.jit, static_argnums=0)
def _numbers(lifetime: Lifetime, theta: Theta) -> Float[Array, "steps names"]:
    """The named numbers of a θ a step, in the order of their names."""
    return jax.vmap(lambda one: jnp.array(list(named(lifetime, one).values())))(theta)


def _rows(lifetime: Lifetime, step: int, seen: Info, count: int) -> list[dict[str, Any]]:
    plain = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), seen._replace(theta=_numbers(lifetime, seen.theta)))
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


def _watch(experiment: Experiment, theta: Theta, split: Split) -> dict[str, dict[str, float]]:
    """Scores on held-out tasks, and how chaotic lives on training tasks are."""
    key, lifetimes = stream(run_key(experiment.seed), Purpose.WATCH), experiment.evaluation.monitor_lifetimes
    seen = jax.device_get(learning_curves(experiment.lifetime, theta, split.test, key, lifetimes, 1)).metrics
    grown = np.asarray(lyapunov_exponent(experiment.lifetime, theta, split.train, key, lifetimes))
    return {
        "held_out": {name: float(values[:, -1].mean()) for name, values in seen.items()},
        "lyapunov_exponent": {"median": float(np.median(grown)), "largest": float(grown.max())},
    }
