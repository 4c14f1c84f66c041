"""Learn a learning rule: `metarule train CONFIG [--TABLE.FIELD VALUE …]`."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shlex import join, quote

from metarule.commands import cli
from metarule.commands.opening import CONFIGS, listed, new_run, parse_new_run, resumed_run
from metarule.config.help import Source
from metarule.config.imports import import_words
from metarule.config.toml import ConfigError, parse_overrides
from metarule.meta.phases import resolved
from metarule.parallel import multihost as processes
from metarule.protocols import Recorded
from metarule.recordings import Recordings, unused_fields
from metarule.reports.page import print_report
from metarule.runs.directory import FIGURES, SEARCH, read_experiment
from metarule.runs.execution import Screen, check_start, execute, summary_text
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.runs.longer import given_theta_files, lengthen
from metarule.runs.stopping import Diverged, Stopped, StopRequest

__all__ = ["FIELDS", "USAGE", "main", "serve_inference"]

FIELDS = (Source(Experiment),)
USAGE = f"""\
usage: metarule train CONFIG [--TABLE.FIELD VALUE ...] [--from RUN_DIR] [--overwrite]
       metarule train --resume RUN_DIR [--optimizer.steps N]

Learn a rule from CONFIG, and compare it on held-out tasks with tuned baselines.

  CONFIG                 TOML file, or the name of one that is shipped:
{listed(CONFIGS, 25)}
  --TABLE.FIELD VALUE    set a field of the config, or of [devices]
  --from RUN_DIR         begin with the θ of a finished run of the same rule
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue from the last checkpoint of a run; --optimizer.steps N makes it longer
  --help [TABLE]         this text, or the fields of a table

N processes share a run: start each with the same arguments and with --devices.coordinator HOST:PORT
--devices.processes N --devices.process 0, 1, ...
"""


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`, 1 if θ diverged."""
    return cli.run("metarule train", words, USAGE, _serve, "what was saved before is kept", FIELDS, joint=True)


def serve_inference(words: list[str]) -> int:
    """Infer a rule as the words of a command line say."""
    with ExitStack() as stack:
        directory = _open(words, stack, "infer")
        experiment = read_experiment(directory)
        tasks = experiment.tasks
        if isinstance(tasks, Recordings) and (unused := unused_fields(tasks.files, tasks.columns)):
            print(f"fields of the recordings that are not used: {', '.join(unused)}", flush=True)
        return _run(experiment, directory, "infer")


def _serve(words: list[str]) -> int:
    processes.check_same("command line", join(words))
    with ExitStack() as stack, processes.working_directory(partial(_open, words, stack, "train")) as directory:
        return _run(read_experiment(directory), directory, "train")


def _open(words: list[str], stack: ExitStack, command: str) -> Path:
    """Lock the directory of a new or resumed run."""
    if words[0] == "--resume":
        return _resume(words[1:], stack, command)
    new = parse_new_run(words)
    experiment, given = read_experiment_file(new.config, new.pairs)
    _check_command(experiment, command)
    check_start(experiment)
    files = given_theta_files(new.start, experiment) if new.start else {}
    last = experiment.seed + experiment.seeds - 1
    suffix = f"-s{experiment.seed}" + (f"-{last}" if experiment.seeds > 1 else "")
    return new_run(stack, new, experiment, given, suffix, files)


def _check_command(experiment: Experiment, command: str) -> None:
    """Refuse tasks that are for the other command."""
    if isinstance(experiment.tasks, Recorded) == (command == "train"):
        other = "infer" if command == "train" else "train"
        is_not = "are recordings" if command == "train" else "are no recordings"
        raise ConfigError(f"tasks.kind: these tasks {is_not}; use: metarule {other}")


def _resume(words: list[str], stack: ExitStack, command: str) -> Path:
    """Lock the directory of a resumed run, which may get more meta-steps."""
    pairs = parse_overrides(words[1:])
    if not words or (pairs and [name for name, _ in pairs] != ["optimizer.steps"]):
        raise ConfigError(
            "--resume takes one run directory, --optimizer.steps N and --devices: other settings are those of the run"
        )
    directory = resumed_run(stack, words[0])
    _check_command(read_experiment(directory), command)
    if (directory / SEARCH).exists():
        again = f"metarule evolve --resume {quote(str(directory))}{import_words()}"
        raise ConfigError(f"{directory}: it holds a structure search; go on with: {again}")
    if pairs:
        lengthen(directory, pairs[0][1])
    return directory


def _run(experiment: Experiment, directory: Path, command: str) -> int:
    print(f"run: {directory}", flush=True)
    _, reason = resolved(experiment.optimizer, experiment.lifetime, runs=1)
    if reason:
        print(reason, flush=True)
    try:
        with StopRequest() as stop:
            summary = execute(experiment, directory, stop, Screen())
    except Stopped as stopped:
        again = f"metarule {command} --resume {quote(str(directory))}{import_words()}"
        print(f"\n{stopped}; go on with: {again}", file=sys.stderr)
        return 128 + stopped.signal_number
    except Diverged as diverged:
        print(f"metarule {command}: {diverged}", file=sys.stderr)
        return 1
    print(f"\n{summary_text(summary)}\n\nfigures: {directory / FIGURES}   numbers: {directory / 'summary.json'}")
    print_report(directory)
    return 0
