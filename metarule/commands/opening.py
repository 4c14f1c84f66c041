"""Run directories of commands that train: a new one for a config, or one to resume."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from metarule.config.toml import ConfigError, parse_overrides
from metarule.runs.directory import locked_run, read_experiment, start_run, timestamped
from metarule.runs.experiment import Experiment
from metarule.runs.members import is_member

__all__ = ["new_run", "resumed_run", "split_words"]


def split_words(words: list[str]) -> tuple[Path, list[tuple[str, Any]], bool]:
    """Split the command line of a new run into config file, (field, value) pairs, and whether to overwrite a run."""
    if words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a config file comes first, or --resume; see --help")
    pairs = parse_overrides([word for word in words[1:] if word != "--overwrite"])
    return Path(words[0]), pairs, "--overwrite" in words


def new_run(stack: ExitStack, config: Path, experiment: Experiment, given: str, overwrite: bool, suffix: str) -> Path:
    """Create and lock the directory of a new run; by default it is named by the config, the time and a suffix."""
    default = timestamped(Path("runs", config.stem), suffix)
    directory = Path(experiment.run.directory) if experiment.run.directory else default
    stack.enter_context(locked_run(directory))
    start_run(directory, experiment, given, overwrite)
    return directory


def resumed_run(stack: ExitStack, words: list[str]) -> Path:
    """Lock the directory that `--resume RUN_DIR` names."""
    if len(words) != 2:
        raise ConfigError("--resume takes one run directory, and --devices: other settings are those of the run")
    directory = Path(words[1])
    read_experiment(directory)  # before the lock, which would leave its file in a directory without a run
    if is_member(directory):
        raise ConfigError(f"{directory}: it is a member of a sweep, which is finished; go on with: metarule evaluate")
    stack.enter_context(locked_run(directory))
    return directory
