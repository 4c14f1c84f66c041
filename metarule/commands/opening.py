"""Run directories of commands that train: a new one for a config, or one to resume."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from textwrap import fill, indent
from typing import Any, NamedTuple

from immutabledict import immutabledict

from metarule.config.shipped import find_config, shipped
from metarule.config.toml import ConfigError, parse_overrides
from metarule.runs.directory import locked_run, read_experiment, start_run, timestamped
from metarule.runs.experiment import Experiment
from metarule.runs.members import is_member

__all__ = [
    "CONFIGS",
    "INFERENCES",
    "SIMULATIONS",
    "STUDIES",
    "NewRun",
    "listed",
    "new_run",
    "parse_new_run",
    "resumed_run",
]

# Names of shipped files: experiments, studies, whose sweeps `metarule sweep` runs, and those of
# `metarule simulate` and `metarule infer`.
STUDIES = tuple(name for name in shipped() if name.startswith("study-"))
SIMULATIONS = tuple(name for name in shipped() if name.startswith("simulate-"))
INFERENCES = tuple(name for name in shipped() if name.startswith("infer-"))
CONFIGS = tuple(name for name in shipped() if name not in (*STUDIES, *SIMULATIONS, *INFERENCES))


def listed(names: Sequence[str], margin: int) -> str:
    """Names with commas, in lines of a help text that begin after a margin."""
    return indent(fill(", ".join(names), 120 - margin, break_on_hyphens=False), " " * margin)


class NewRun(NamedTuple):
    """Command line of a new run.

    Attributes:
        config: config file.
        pairs: (dotted field, value) pairs.
        overwrite: whether to replace a run.
        start: directory of the run with whose θ it begins; empty for an initial θ.
    """

    config: Path
    pairs: list[tuple[str, Any]]
    overwrite: bool
    start: str


def parse_new_run(words: Sequence[str]) -> NewRun:
    """Parse the command line of a new run."""
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a config file comes first, or --resume; see --help")
    pairs = parse_overrides([word for word in words[1:] if word != "--overwrite"])
    start = [str(value) for name, value in pairs if name == "from"]
    fields = [pair for pair in pairs if pair[0] != "from"]
    return NewRun(find_config(words[0]), fields, "--overwrite" in words, start[-1] if start else "")


def new_run(
    stack: ExitStack,
    new: NewRun,
    experiment: Experiment,
    given: str,
    suffix: str,
    files: Mapping[str, bytes] = immutabledict(),
) -> Path:
    """Create and lock the directory of a new run; by default it is named by the config, the time and a suffix."""
    default = timestamped(Path("runs", new.config.stem), suffix)
    directory = Path(experiment.run.directory) if experiment.run.directory else default
    stack.enter_context(locked_run(directory))
    start_run(directory, experiment, given, new.overwrite, files)
    return directory


def resumed_run(stack: ExitStack, path: str) -> Path:
    """Lock the directory of a run that is resumed."""
    directory = Path(path)
    read_experiment(directory)  # before the lock, which would leave its file in a directory without a run
    if is_member(directory):
        raise ConfigError(f"{directory}: it is a member of a sweep, which is finished; go on with: metarule evaluate")
    stack.enter_context(locked_run(directory))
    return directory
