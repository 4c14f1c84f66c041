"""Runs that have come to their end, and other tasks for what they learned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, NamedTuple

import jax
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from metarule.analysis.baselines import BaselineName, baselines, theta_at_rate
from metarule.analysis.comparison import INITIAL, LEARNED, THRESHOLD, Contender, describe_split
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.prng import Purpose, run_key, stream
from metarule.runs import artifacts
from metarule.runs.experiment import Experiment, to_tree, with_tasks
from metarule.runs.training import theta_meaning
from metarule.types import PRNGKey, Theta

__all__ = [
    "EvaluationOptions",
    "Finished",
    "Trial",
    "contenders",
    "describe_novelty",
    "new_place",
    "opened",
    "read_finished",
    "read_trial",
]


class Finished(NamedTuple):
    """A run of one seed that has come to its end.

    Attributes:
        path: its directory.
        experiment: what ran.
        theta: what it learned.
        initial: what it started from.
        rates: learning rates of its baselines, as they were tuned on its training tasks.
    """

    path: Path
    experiment: Experiment
    theta: Theta
    initial: Theta
    rates: dict[str, float]


class _Tuned(Struct):
    """What is read of a baseline in a summary."""

    learning_rate: Annotated[float, Meta(gt=0, le=1e18)]


class _HeldOut(Struct):
    """What is read of the held-out part of a summary."""

    baselines: dict[BaselineName, _Tuned] = {}


class _Summary(Struct):
    """What is read of a summary."""

    held_out: _HeldOut | None = None


class EvaluationOptions(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How new tasks are met.

    Attributes:
        threshold: score for which the steps to threshold are reported.
        networks: fresh networks that meet each task, at least; `evaluation.lifetimes` is how many there are of all.
        draw: number of the draw of weights and orders, to look at others.
        directory: where the results go; empty for a folder in the run's directory.
    """

    threshold: float = THRESHOLD
    networks: Annotated[int, Meta(ge=1, le=100_000)] = 4
    draw: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    directory: str = ""


class Trial(NamedTuple):
    """What a command asks for: a finished run on new tasks.

    Attributes:
        run: the run.
        experiment: what it is tried on.
        look: how.
        tasks: how many are drawn; some may be the same, and then more networks meet them.
        rest: fields that are the command's own.
    """

    run: Finished
    experiment: Experiment
    look: EvaluationOptions
    tasks: int
    rest: dict[str, Any]

    @property
    def lifetimes(self) -> int:
        """Lifetimes in all."""
        return self.tasks * self.look.networks

    @property
    def key(self) -> PRNGKey:
        """Decides weights and orders, the same whatever is tried."""
        return jax.random.fold_in(stream(run_key(self.experiment.seed), Purpose.EVALUATION), self.look.draw)

    def tree(self) -> dict[str, Any]:
        """What was asked for, for a summary."""
        return {
            "run": str(self.run.path),
            "novelty": describe_novelty(self.run, self.experiment),
            "look": asdict(self.look),
            "experiment": to_tree(self.experiment),
        }


@contextmanager
def opened(word: str) -> Iterator[Finished]:
    """The run that a command is given by its first word.

    Args:
        word: its directory.

    Yields:
        What is in it; meanwhile no other process works there.

    Raises:
        ConfigError: as `read_finished` does, or another process works there.
    """
    if word.startswith("-"):
        raise ConfigError(f"'{word}': the directory of a run comes first; see --help")
    read_finished(Path(word))  # or a lock would be left where there is no run
    with artifacts.claimed(Path(word)):
        yield read_finished(Path(word))


def read_trial(
    run: Finished, words: Sequence[str], own: str = "", idle: Sequence[str] = ("monitor_every", "monitor_lifetimes")
) -> Trial:
    """Read `[--option VALUE …] [--section.field VALUE …]`.

    Args:
        run: the run.
        words: of the command line, after the directory of the run.
        own: table whose fields are the command's own.
        idle: fields of evaluation on which nothing depends that the command finds.

    Returns:
        What is asked for.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """
    pairs = parse_overrides(words)
    options = {name: str(value) if name == "directory" else value for name, value in pairs if "." not in name}
    look = decode(options, EvaluationOptions)
    rest = {name.removeprefix(f"{own}."): value for name, value in pairs if own and name.startswith(f"{own}.")}
    for name, _ in pairs:
        if name in {f"evaluation.{field}" for field in idle}:
            raise ConfigError(f"--{name}: nothing depends on it here")
    others = [(name, value) for name, value in pairs if "." in name and name.split(".")[0] != own]
    experiment = with_tasks(run.experiment, others)
    for name in experiment.evaluation.baselines:
        if name not in run.rates:
            says = f"evaluation.baselines: the rate of '{name}' was not tuned by this run"
            raise ConfigError(f"{says}; allowed: {', '.join(run.rates)}")
    lifetimes = experiment.evaluation.lifetimes
    if lifetimes < look.networks:
        raise ConfigError(f"networks = {look.networks}: allowed: at most evaluation.lifetimes, which is {lifetimes}")
    return Trial(run, experiment, look, lifetimes // look.networks, rest)


def read_finished(path: Path) -> Finished:
    """Read a run directory.

    Args:
        path: the directory.

    Returns:
        What is in it.

    Raises:
        ConfigError: a directory that holds no run, one of several seeds, one that is not finished or one of another
            version.
    """
    experiment = artifacts.read_experiment(path)
    if experiment.seeds > 1:
        one = artifacts.seed_directory(path, experiment.seed)
        raise ConfigError(f"{path}: it holds runs of {experiment.seeds} seeds; give one of them, such as {one}")
    if (path / artifacts.FORMS).exists():
        raise ConfigError(f"{path}: it holds a search for forms, which ends with no θ to be tried")
    file = path / "summary.json"
    try:
        held_out = msgspec.convert(artifacts.read_json(file) or {}, _Summary).held_out
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: damaged: {error}") from error
    if held_out is None:
        resume = f"python -m metarule.train --resume {quote(str(path))}"
        raise ConfigError(f"{path}: this run is not finished; go on with: {resume}")
    initial = experiment.lifetime.init_theta(stream(run_key(experiment.seed), Purpose.THETA))
    rates: dict[str, float] = {name: row.learning_rate for name, row in held_out.baselines.items()}
    theta = artifacts.load_theta(path, initial, theta_meaning(experiment.lifetime))
    return Finished(path, experiment, theta, initial, rates)


def describe_novelty(run: Finished, experiment: Experiment) -> str:
    """How new the test tasks of an experiment are to what a run learned, in words."""
    here, there = experiment.tasks, run.experiment.tasks
    if here == there:
        return describe_split(experiment.split)
    if type(here) is not type(there):
        return "another family of tasks"
    if getattr(here, "dataset", None) != getattr(there, "dataset", None):
        return "tasks made of other data"
    return (
        "the same family, otherwise with another split or other settings: some of these tasks may have been trained on"
    )


def contenders(run: Finished, experiment: Experiment) -> tuple[dict[str, Contender], dict[str, str]]:
    """Who is tried beside each other.

    Args:
        run: the run.
        experiment: what it is tried on.

    Returns:
        (the learned rule, the initial one, and the baselines at the rates at which the run had tuned them; baselines
        that the circuit is not made for, and why).
    """
    lifetime = experiment.lifetime
    found = {LEARNED: Contender(lifetime, run.theta), INITIAL: Contender(lifetime, run.initial)}
    left_out: dict[str, str] = {}
    for name in experiment.evaluation.baselines or run.rates:
        try:
            (learner,) = baselines(lifetime, (name,)).values()
        except ValueError as error:
            left_out[name] = str(error)
            continue
        found[name] = Contender(learner, theta_at_rate(learner, run.rates[name]))
    return found, left_out


@contextmanager
def new_place(run: Finished, kind: str, directory: str) -> Iterator[Path]:
    """A new folder for what is found, in the run's directory unless another is named.

    Args:
        run: the run.
        kind: folder of all that are made alike.
        directory: where it is wanted; empty for a folder named by the time.

    Yields:
        The folder, which holds nothing; what was made for it is removed if it still does at the end.

    Raises:
        ConfigError: a folder that holds something, or cannot be made.
    """
    path = Path(directory) if directory else artifacts.named_by_time(run.path / kind)
    made: list[Path] = []
    try:
        try:
            made += [one for one in (path, *path.parents) if not one.exists()]
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ConfigError(f"directory = '{path}': it holds something; choose another")
        except OSError as error:
            raise ConfigError(f"directory = '{path}': {error.strerror}") from error
        yield path
    finally:
        with suppress(OSError):
            for one in made:
                one.rmdir()
