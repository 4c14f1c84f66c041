"""Finished runs on new tasks: options, contenders and the folder of the results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
from msgspec import Meta
from msgspec.structs import asdict

from metarule.analysis.baselines import baselines, theta_at_rate
from metarule.analysis.comparison import INITIAL, LEARNED, THRESHOLD, Contender, describe_split
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.prng import Purpose, run_key, stream
from metarule.runs.directory import locked_run, timestamped
from metarule.runs.experiment import Experiment, to_tree, with_tasks
from metarule.runs.finished import FinishedRun, load
from metarule.types import PRNGKey

__all__ = ["EvaluationOptions", "Transfer", "contenders", "new_folder", "open_run", "parse_transfer"]


class EvaluationOptions(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evaluation of a finished run.

    Attributes:
        threshold: mean score for the number of steps to threshold.
        networks: networks a task, at least; `evaluation.lifetimes` is their number over all tasks.
        draw: number of another draw of weights and orders.
        directory: folder of the results; empty for a new one in the run's directory.
    """

    threshold: float = THRESHOLD
    networks: Annotated[int, Meta(ge=1, le=100_000)] = 4
    draw: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    directory: str = ""


class Transfer(NamedTuple):
    """A finished run on new tasks.

    Attributes:
        run: the run.
        experiment: its experiment with the new tasks.
        options: of the evaluation.
        tasks: number of tasks that are drawn; where some are the same, these get more networks.
        rest: (dotted field, value) pairs of the command's own table.
    """

    run: FinishedRun
    experiment: Experiment
    options: EvaluationOptions
    tasks: int
    rest: list[tuple[str, Any]]

    @property
    def lifetimes(self) -> int:
        """Number of lifetimes over all tasks."""
        return self.tasks * self.options.networks

    @property
    def key(self) -> PRNGKey:
        """Key of weights and orders, the same for all contenders."""
        return jax.random.fold_in(stream(run_key(self.experiment.seed), Purpose.EVALUATION), self.options.draw)

    @property
    def novelty(self) -> str:
        """Relation of the test tasks to those of the run, in words."""
        return _novelty(self.run.config, self.experiment)

    def tree(self) -> dict[str, Any]:
        """Settings for a summary."""
        return {
            "run": str(self.run.directory),
            "novelty": self.novelty,
            "options": asdict(self.options),
            "experiment": to_tree(self.experiment),
        }


@contextmanager
def open_run(word: str) -> Iterator[FinishedRun]:
    """Lock and load the run that the first word of a command line names.

    Args:
        word: directory of the run.

    Yields:
        The run; within the block no other process works in its directory.

    Raises:
        ConfigError: as `load`, or another process works there.
    """
    if word.startswith("-"):
        raise ConfigError(f"'{word}': the directory of a run comes first; see --help")
    load(word)  # before the lock, which would leave its file in a directory without a run
    with locked_run(Path(word)):
        yield load(word)


def parse_transfer(
    run: FinishedRun,
    words: Sequence[str],
    own: str = "",
    unused: Sequence[str] = ("monitor_every", "monitor_lifetimes"),
) -> Transfer:
    """Parse `[--option VALUE …] [--table.field VALUE …]`.

    Args:
        run: the run.
        words: of the command line, after the directory of the run.
        own: table with the command's own fields.
        unused: fields of evaluation that the command does not use.

    Returns:
        The run with its new tasks.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """
    pairs = parse_overrides(words)
    given = {name: str(value) if name == "directory" else value for name, value in pairs if "." not in name}
    options = decode(given, EvaluationOptions)
    rest = [pair for pair in pairs if own and pair[0].startswith(f"{own}.")]
    for name, _ in pairs:
        if name in {f"evaluation.{field}" for field in unused}:
            raise ConfigError(f"--{name}: this command does not use it")
    others = [(name, value) for name, value in pairs if "." in name and name.split(".")[0] != own]
    experiment = with_tasks(run.config, others)
    for name in experiment.evaluation.baselines:
        if name not in run.rates:
            message = f"evaluation.baselines: the rate of '{name}' was not tuned by this run"
            raise ConfigError(f"{message}; allowed: {', '.join(run.rates)}")
    lifetimes = experiment.evaluation.lifetimes
    if lifetimes < options.networks:
        raise ConfigError(f"networks = {options.networks}: allowed: at most evaluation.lifetimes, which is {lifetimes}")
    return Transfer(run, experiment, options, lifetimes // options.networks, rest)


def contenders(run: FinishedRun, experiment: Experiment) -> tuple[dict[str, Contender], dict[str, str]]:
    """List the learners that are compared.

    Args:
        run: the run.
        experiment: its experiment with the new tasks.

    Returns:
        (the learned rule, the initial one, and the baselines at the rates that the run tuned; reasons why baselines
        are left out).
    """
    lifetime = experiment.lifetime
    compared = {LEARNED: Contender(lifetime, run.theta), INITIAL: Contender(lifetime, run.initial)}
    left_out: dict[str, str] = {}
    for name in experiment.evaluation.baselines or run.rates:
        try:
            (learner,) = baselines(lifetime, (name,)).values()
        except ValueError as error:
            left_out[name] = str(error)
            continue
        compared[name] = Contender(learner, theta_at_rate(learner, run.rates[name]))
    return compared, left_out


@contextmanager
def new_folder(run: FinishedRun, kind: str, directory: str) -> Iterator[Path]:
    """Create a folder for results.

    Args:
        run: the run.
        kind: folder in the run's directory that holds all results of this kind.
        directory: the folder; empty for one in `kind` named by the time.

    Yields:
        The empty folder. If it is still empty at the end, it is removed with the parents made for it.

    Raises:
        ConfigError: a folder that is not empty, or cannot be made.
    """
    path = Path(directory) if directory else timestamped(run.directory / kind)
    made: list[Path] = []
    try:
        try:
            made += [one for one in (path, *path.parents) if not one.exists()]
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ConfigError(f"directory = '{path}': it is not empty; choose another")
        except OSError as error:
            raise ConfigError(f"directory = '{path}': {error.strerror}") from error
        yield path
    finally:
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _novelty(trained: Experiment, other: Experiment) -> str:
    here, there = other.tasks, trained.tasks
    if here == there:
        return describe_split(other.split)
    if type(here) is not type(there):
        return "another family of tasks"
    if getattr(here, "dataset", None) != getattr(there, "dataset", None):
        return "tasks made of other data"
    return "the same family with another split or other settings: some of these tasks may have been trained on"
