"""Finished runs, and the rules that they learned."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from msgspec import Meta, Struct

from metarule.analysis.baselines import BaselineName
from metarule.config.imports import import_words
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Recorded, TaskFamily
from metarule.rules.lifting import CompleteRule, complete
from metarule.runs.directory import SEARCH, read_experiment, seed_directory
from metarule.runs.experiment import Experiment
from metarule.runs.files import convert, read_json
from metarule.runs.members import check_no_sweep
from metarule.runs.theta_files import given_theta, load_theta, theta_meaning
from metarule.types import Theta

__all__ = ["FinishedRun", "load", "load_seeds"]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run of one seed.

    Attributes:
        directory: where it is.
        config: the experiment.
        theta: the learned θ.
        initial: θ before the first meta-step.
        rates: learning rates of the baselines, as tuned on training tasks, 0 without one; none in a member of a sweep.
        decays: decays of their eligibility traces, where they have one.
    """

    directory: Path
    config: Experiment
    theta: Theta
    initial: Theta
    rates: dict[str, float]
    decays: dict[str, float]

    @property
    def learner(self) -> Lifetime:
        """The learner, which holds rule, circuit and tasks."""
        return self.config.lifetime

    @property
    def rule(self) -> CompleteRule:
        """The rule of which θ are the parameters, completed: it has `update` and `memory`, too."""
        return complete(self.config.rule)

    @property
    def tasks(self) -> TaskFamily:
        """The task family."""
        return self.config.tasks

    @property
    def equation(self) -> str:
        """The learned rule as text."""
        return self.learner.equation(self.theta)

    @property
    def summary(self) -> dict[str, Any]:
        """Results, as in `summary.json`."""
        return dict(read_json(self.directory / "summary.json"))

    def __repr__(self) -> str:
        parts = (self.config.rule, self.learner.circuit, self.tasks)
        return f"FinishedRun('{self.directory}', {', '.join(type(part).__name__ for part in parts)})"


class _Baseline(Struct):
    learning_rate: Annotated[float, Meta(gt=0, le=1e18)] | None
    trace_decay: Annotated[float, Meta(gt=0, lt=1)] | None = None


class _HeldOut(Struct):
    baselines: dict[BaselineName, _Baseline] = {}


class _Summary(Struct):  # fields that are read back
    held_out: _HeldOut | None = None


def load(run_dir: str | Path) -> FinishedRun:
    """Load the finished run of one seed, or a member of a sweep, from its directory.

    Raises:
        ConfigError: no run, one of several seeds, one that is not finished, or one of another format.
    """
    path = Path(run_dir)
    check_no_sweep(path)
    experiment = read_experiment(path)
    if experiment.seeds > 1:
        example = seed_directory(path, experiment.seed)
        raise ConfigError(f"{path}: it holds runs of {experiment.seeds} seeds; give one of them, such as {example}")
    if (path / SEARCH).exists():
        raise ConfigError(f"{path}: it holds a structure search, which has no single θ; see its front.json")
    file = path / "summary.json"
    summary: _Summary = convert(file, read_json(file) or {}, _Summary)
    held_out = summary.held_out
    if held_out is None:
        command = "infer" if isinstance(experiment.tasks, Recorded) else "train"
        resume = f"metarule {command} --resume {quote(str(path))}{import_words()}"
        raise ConfigError(f"{path}: this run is not finished; go on with: {resume}")
    learner = experiment.lifetime
    given = given_theta(path, learner)
    initial = learner.init_theta(stream(run_key(experiment.seed), Purpose.THETA)) if given is None else given
    theta = load_theta(path, initial, theta_meaning(learner))
    rates: dict[str, float] = {name: one.learning_rate or 0.0 for name, one in held_out.baselines.items()}
    decays: dict[str, float] = {
        name: one.trace_decay for name, one in held_out.baselines.items() if one.trace_decay is not None
    }
    return FinishedRun(path, experiment, theta, initial, rates, decays)


def load_seeds(run_dir: str | Path) -> tuple[FinishedRun, ...]:
    """Load the finished runs of all seeds of a directory, of which there may be one; errors as of `load`."""
    path = Path(run_dir)
    check_no_sweep(path)
    experiment = read_experiment(path)
    if experiment.seeds == 1:
        return (load(path),)
    seeds = experiment.all_seeds
    return tuple(load(seed_directory(path, seed)) for seed in seeds)
