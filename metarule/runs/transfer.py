"""Finished runs on new tasks: options, contenders and the folder of the results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
from msgspec import Meta
from msgspec.structs import asdict

from metarule.analysis.baselines import baselines
from metarule.analysis.comparison import INITIAL, LEARNED, THRESHOLD, Contender, describe_split, join_descriptions
from metarule.analysis.tuning import theta_at_rate
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import TaskFamily
from metarule.runs.directory import locked_run, timestamped
from metarule.runs.experiment import Experiment, to_tree, with_tasks
from metarule.runs.figures.canvas import formats
from metarule.runs.finished import FinishedRun, load
from metarule.tasks import Boolean, Mixture, Points, Tabular
from metarule.tasks.pools import splits_of_families
from metarule.types import PRNGKey, Split

__all__ = [
    "EvaluationOptions",
    "Transfer",
    "contenders",
    "describe_novelty",
    "new_folder",
    "open_run",
    "parse_transfer",
]

_MONITORING = ("monitor_every", "monitor_lifetimes", "theta")


class EvaluationOptions(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evaluation of a finished run.

    Attributes:
        threshold: mean score for the number of steps to threshold.
        networks: least number of networks on each task; `evaluation.lifetimes` is the number over all tasks.
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
        return describe_novelty(self.run.tasks, self.experiment)

    def tree(self) -> dict[str, Any]:
        """Settings for a summary."""
        settings = {"options": asdict(self.options), "experiment": to_tree(self.experiment)}
        return {"run": str(self.run.directory), "novelty": self.novelty} | settings


def describe_novelty(trained: TaskFamily, experiment: Experiment) -> str:
    """Describe in words how the test tasks of an experiment relate to those of a run."""
    tasks, split = experiment.tasks, experiment.split
    if not isinstance(tasks, Mixture):
        return _novelty(tasks, split, trained)
    return join_descriptions(map(_novelty, tasks.families, splits_of_families(split), repeat(trained)))


def _novelty(tasks: TaskFamily, split: Split, trained: TaskFamily) -> str:
    """Describe how the test tasks of one family relate to those of a run, which may be on a mixture."""
    known = trained.families if isinstance(trained, Mixture) else (trained,)
    if tasks in known:
        return describe_split(split)
    alike = [family for family in known if type(family) is type(tasks)]
    if not alike:
        return "another family of tasks"
    description, origins = _origins(tasks)
    if origins and all(origins.isdisjoint(_origins(family)[1]) for family in alike):
        return description
    return "the same family with another split or other settings: some of these tasks may have been trained on"


def _origins(tasks: TaskFamily) -> tuple[str, set[Any]]:
    """Origins of the tasks of a family, and the description of tasks of others; none where they are not known."""
    match tasks:
        case Boolean():
            return "functions of another number of inputs", {tasks.inputs}
        case Points():
            return "points of other shapes", set(tasks.shape_names)
        case Tabular():
            return "tasks made of other data", {tasks.source}
        case _:
            return "", set()


@contextmanager
def open_run(word: str) -> Iterator[FinishedRun]:
    """Lock and load the run that the first word of a command line names; figures have the formats of the run.

    Raises:
        ConfigError: as `load`, or another process works there.
    """
    if word.startswith("-"):
        raise ConfigError(f"'{word}': the directory of a run comes first; see --help")
    load(word)  # before the lock, which would leave its file in a directory without a run
    with locked_run(Path(word)):
        run = load(word)
        with formats(run.config.run.figure_formats):
            yield run


def parse_transfer(
    run: FinishedRun, words: Sequence[str], own: str = "", unused: Sequence[str] = _MONITORING
) -> Transfer:
    """Parse `[--OPTION VALUE …] [--TABLE.FIELD VALUE …]` into a finished run on new tasks.

    Args:
        run: the run.
        words: of the command line, after the directory of the run.
        own: table with the command's own fields.
        unused: fields of evaluation that the command does not use.

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
    fields = [(name, value) for name, value in pairs if "." in name and name.split(".")[0] != own]
    experiment = with_tasks(run.config, fields)
    for name in experiment.evaluation.baselines:
        if name not in run.rates:
            message = f"evaluation.baselines: the rate of '{name}' was not tuned by this run"
            raise ConfigError(f"{message}; allowed: {', '.join(run.rates) or 'none, as in all members of sweeps'}")
    lifetimes = experiment.evaluation.lifetimes
    if lifetimes < options.networks:
        raise ConfigError(f"networks = {options.networks}: allowed: at most evaluation.lifetimes, which is {lifetimes}")
    return Transfer(run, experiment, options, lifetimes // options.networks, rest)


def contenders(run: FinishedRun, experiment: Experiment) -> tuple[dict[str, Contender], dict[str, str]]:
    """List the learners that are compared: the learned rule, the initial one, and baselines at the tuned rates.

    Returns:
        (learners and θ by name; reasons why baselines are left out, by name).
    """
    lifetime = experiment.lifetime
    compared = {LEARNED: Contender(lifetime, run.theta), INITIAL: Contender(lifetime, run.initial)}
    left_out: dict[str, str] = {}
    if not run.rates:
        return compared, {"baselines": "their rates were not tuned by this run, as in all members of sweeps"}
    for name in experiment.evaluation.baselines or run.rates:
        try:
            learner = baselines(lifetime, (name,))[name]
            compared[name] = Contender(learner, theta_at_rate(learner, run.rates[name], run.decays.get(name)))
        except ValueError as error:
            left_out[name] = str(error)
    return compared, left_out


@contextmanager
def new_folder(parent: Path, directory: str, option: str = "directory") -> Iterator[Path]:
    """Create a folder for results; if it is still empty at the end, it is removed with the parents made for it.

    Args:
        parent: folder of all results of this kind, such as `evaluations` in the run's directory.
        directory: the folder; empty for one in `parent` named by the time.
        option: name of the option that sets the folder, for errors.

    Raises:
        ConfigError: a folder that is not empty, or cannot be made.
    """
    path = Path(directory) if directory else timestamped(parent)
    made: list[Path] = []
    try:
        try:
            made += [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise ConfigError(f"{option} = '{path}': it is not empty; choose another")
        except OSError as error:
            raise ConfigError(f"{option} = '{path}': {error.strerror}") from error
        yield path
    finally:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
