"""Learn a learning rule: `python -m metarule.train CONFIG [--section.field VALUE …]`."""

import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from metarule.analysis.ablation import contributions_table
from metarule.analysis.comparison import HELD_OUT, describe_split, held_out_table
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import ConfigError, parse_overrides
from metarule.meta.phases import resolved, total_steps
from metarule.parallel import multihost as processes
from metarule.runs.directory import (
    FIGURES,
    SEARCH,
    is_run,
    locked_run,
    read_experiment,
    seed_directory,
    start_run,
    timestamped,
)
from metarule.runs.environment import record_environment
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.runs.files import read_json
from metarule.runs.phenomena import phenomena_table
from metarule.runs.results import join_seeds, write_results
from metarule.runs.stopping import Diverged, Stopped, StopRequest
from metarule.runs.training import train
from metarule.tasks.base import primary_metric

__all__ = ["FIELDS", "USAGE", "main"]

FIELDS = (Source(Experiment),)
USAGE = """\
usage: metarule train CONFIG [--TABLE.FIELD VALUE ...] [--overwrite]
       metarule train --resume RUN_DIR

Learn a rule from CONFIG, and compare it on held-out tasks with tuned baselines.

  CONFIG                 TOML file, such as configs/boolean.toml
  --TABLE.FIELD VALUE    set a field of the config, or of [devices]
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue from the last checkpoint of a run
  --help [TABLE]         this text, or the fields of a table

N processes share a run: start each with the same arguments and with --devices.coordinator HOST:PORT
--devices.processes N --devices.process 0, 1, ...
"""


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if nothing could be learned from, a device or disk failed, or a figure could not be
        drawn, 2 bad input, 128 + signal if stopped.
    """
    kept = "what was saved before is kept"
    return cli.run("metarule.train", words, USAGE, _serve, kept, FIELDS, joint=True)


def _serve(words: list[str]) -> int:
    processes.check_same("command line", shlex.join(words))
    with ExitStack() as stack, processes.place(partial(_open_run, words, stack)) as directory:
        return _run(read_experiment(directory), directory)


def _open_run(words: list[str], stack: ExitStack) -> Path:
    """Lock the directory of a new or resumed run."""
    if words[0] == "--resume":
        if len(words) != 2:
            raise ConfigError("--resume takes one run directory, and --devices: other settings are those of the run")
        directory = Path(words[1])
        read_experiment(directory)
        if (directory / SEARCH).exists():
            again = f"python -m metarule.evolve --resume {shlex.quote(str(directory))}"
            raise ConfigError(f"{directory}: it holds a structure search; go on with: {again}")
        stack.enter_context(locked_run(directory))
    elif words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a config file comes first, or --resume; see --help")
    else:
        config, overwrite = Path(words[0]), "--overwrite" in words
        pairs = parse_overrides([word for word in words[1:] if word != "--overwrite"])
        experiment, given = read_experiment_file(config, pairs)
        directory = _directory(experiment, config)
        stack.enter_context(locked_run(directory))
        start_run(directory, experiment, given, overwrite)
    return directory


def _directory(experiment: Experiment, config: Path) -> Path:
    if experiment.run.directory:
        return Path(experiment.run.directory)
    last = experiment.seed + experiment.seeds - 1
    seeds = f"s{experiment.seed}" + (f"-{last}" if experiment.seeds > 1 else "")
    return timestamped(Path("runs", config.stem), f"-{seeds}")


def _run(experiment: Experiment, directory: Path) -> int:
    print(f"run: {directory}", flush=True)
    _, reason = resolved(experiment.optimizer, experiment.lifetime, runs=1)
    if reason:
        print(reason, flush=True)
    try:
        with StopRequest() as stop:
            run = _run_one if experiment.seeds == 1 else _run_seeds
            summary = run(experiment, directory, stop)
    except Stopped as stopped:
        resume = f"python -m metarule.train --resume {shlex.quote(str(directory))}"
        print(f"\n{stopped}; go on with: {resume}", file=sys.stderr)
        return 128 + stopped.signal_number
    except Diverged as diverged:
        print(f"metarule.train: {diverged}", file=sys.stderr)
        return 1
    print(f"\n{_summary_text(summary)}\n")
    print(f"figures: {directory / FIGURES}   numbers: {directory / 'summary.json'}")
    return 0


def _summary_text(summary: dict[str, Any]) -> str:
    """Summary for the screen; that of several seeds has no equation."""
    parts = [held_out_table(summary["held_out"])]
    parts += [phenomena_table(summary["phenomena"])] if "phenomena" in summary else []
    parts += [contributions_table(summary["contributions"])] if "contributions" in summary else []
    parts += [summary["equation"]] if "equation" in summary else []
    return "\n\n".join(parts)


def _run_seeds(experiment: Experiment, directory: Path, stop: StopRequest) -> dict[str, Any]:
    """Run all seeds; one that diverges does not stop the others."""
    record_environment(directory)
    summaries, diverged = [], []
    for seed in range(experiment.seed, experiment.seed + experiment.seeds):
        try:
            summaries.append(_run_seed(experiment, directory, seed, stop))
        except Diverged as error:
            diverged.append(f"seed {seed}: {error}")
    if diverged:
        raise Diverged(f"{'; '.join(diverged)}; {len(summaries)} other seeds are done, each in its own directory")
    return join_seeds(directory, summaries)


def _run_seed(experiment: Experiment, directory: Path, seed: int, stop: StopRequest) -> dict[str, Any]:
    path = seed_directory(directory, seed)
    one = experiment.of_seed(seed)
    with locked_run(path):
        if not is_run(path):
            start_run(path, one, None)
        elif read_experiment(path) != one:
            raise ConfigError(f"{path}: it holds another run than that of seed {seed} in {directory}")
        return _run_one(one, path, stop)


def _run_one(experiment: Experiment, path: Path, stop: StopRequest) -> dict[str, Any]:
    """Continue a run from its last checkpoint; of a finished run the summary is read."""
    if summary := _finished_summary(experiment, path):
        return summary
    record_environment(path)
    steps, tasks = total_steps(experiment.optimizer), describe_split(experiment.split)
    label = f"{'held-out' if tasks == HELD_OUT else 'training'} {primary_metric(experiment.tasks)}"
    with tqdm(total=steps, desc=f"seed {experiment.seed}: compiling", unit="step", disable=None) as bar:
        trained = train(experiment, path, stop, _Progress(bar, experiment, label))
    print(f"tuning the baselines and evaluating on {tasks} …", flush=True)
    return write_results(experiment, path, trained, stop)


def _finished_summary(experiment: Experiment, path: Path) -> dict[str, Any] | None:
    file = path / "summary.json"
    summary = read_json(file) or {}
    if "held_out" not in summary:
        return None
    try:
        _summary_text(summary)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: damaged: it is no summary: {type(error).__name__} {error}") from error
    found, expected = (summary.get("seed"), summary.get("steps")), (experiment.seed, total_steps(experiment.optimizer))
    if found != expected:
        raise ConfigError(
            f"{path}: optimizer.steps = {expected[1]}, seed = {expected[0]}: the finished run there took {found[1]} "
            f"meta-steps with seed {found[0]}"
        )
    return summary


class _Progress:
    """Progress bar of a run, or lines where there is no terminal; warnings go to standard error."""

    def __init__(self, bar: "tqdm[Any]", experiment: Experiment, label: str) -> None:
        self._bar, self._experiment, self._label = bar, experiment, label
        self._text, self._score, self._trouble = "", "", False

    def __call__(self, step: int, row: dict[str, Any]) -> None:
        bar, seed = self._bar, f"seed {self._experiment.seed}"
        if "held_out" in row:
            self._score = f", {self._label} {row['held_out'][primary_metric(self._experiment.tasks)]:.3f}"
        if "loss" in row:
            self._text = f"loss {row['loss']:.3f}{self._score}"
        bar.set_description(f"{seed}: meta-training", refresh=False)
        bar.set_postfix_str(self._text, refresh=False)
        bar.update(step - bar.n)
        trouble = row.get("trouble")
        if trouble and not self._trouble:
            bar.write(f"{seed}, meta-step {step}: {trouble}", file=sys.stderr)
        self._trouble = bool(trouble)
        if bar.disable and "held_out" in row:
            print(f"{seed}: meta-step {step} of {bar.total}, {self._text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
