"""Learn a learning rule: `metarule train CONFIG [--TABLE.FIELD VALUE …]`."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shlex import join, quote
from typing import Any

from tqdm import tqdm

from metarule.analysis.ablation import contributions_table
from metarule.analysis.comparison import HELD_OUT, describe_split, held_out_table
from metarule.commands import cli
from metarule.commands.opening import CONFIGS, new_run, resumed_run, split_words
from metarule.config.help import Source
from metarule.config.toml import ConfigError
from metarule.meta.phases import resolved, total_steps
from metarule.parallel import multihost as processes
from metarule.runs.directory import FIGURES, SEARCH, is_run, locked_run, read_experiment, seed_directory, start_run
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
USAGE = f"""\
usage: metarule train CONFIG [--TABLE.FIELD VALUE ...] [--overwrite]
       metarule train --resume RUN_DIR

Learn a rule from CONFIG, and compare it on held-out tasks with tuned baselines.

  CONFIG                 TOML file, or the name of one that is shipped:
                         {", ".join(CONFIGS)}
  --TABLE.FIELD VALUE    set a field of the config, or of [devices]
  --overwrite            replace the run in --run.directory
  --resume RUN_DIR       continue from the last checkpoint of a run
  --help [TABLE]         this text, or the fields of a table

N processes share a run: start each with the same arguments and with --devices.coordinator HOST:PORT
--devices.processes N --devices.process 0, 1, ...
"""


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`, 1 if θ diverged."""
    return cli.run("metarule train", words, USAGE, _serve, "what was saved before is kept", FIELDS, joint=True)


def _serve(words: list[str]) -> int:
    processes.check_same("command line", join(words))
    with ExitStack() as stack, processes.working_directory(partial(_open, words, stack)) as directory:
        return _run(read_experiment(directory), directory)


def _open(words: list[str], stack: ExitStack) -> Path:
    """Lock the directory of a new or resumed run."""
    if words[0] == "--resume":
        directory = resumed_run(stack, words)
        if (directory / SEARCH).exists():
            again = f"metarule evolve --resume {quote(str(directory))}"
            raise ConfigError(f"{directory}: it holds a structure search; go on with: {again}")
        return directory
    config, pairs, overwrite = split_words(words)
    experiment, given = read_experiment_file(config, pairs)
    last = experiment.seed + experiment.seeds - 1
    suffix = f"-s{experiment.seed}" + (f"-{last}" if experiment.seeds > 1 else "")
    return new_run(stack, config, experiment, given, overwrite, suffix)


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
        print(f"\n{stopped}; go on with: metarule train --resume {quote(str(directory))}", file=sys.stderr)
        return 128 + stopped.signal_number
    except Diverged as diverged:
        print(f"metarule train: {diverged}", file=sys.stderr)
        return 1
    print(f"\n{_summary_text(summary)}\n\nfigures: {directory / FIGURES}   numbers: {directory / 'summary.json'}")
    return 0


def _summary_text(summary: dict[str, Any]) -> str:
    """Summary for the screen; that of several seeds has no equation."""
    tables = {"held_out": held_out_table, "phenomena": phenomena_table, "contributions": contributions_table}
    parts = [text(summary[name]) for name, text in tables.items() if name in summary]
    return "\n\n".join([*parts, *([summary["equation"]] if "equation" in summary else [])])


def _run_seeds(experiment: Experiment, directory: Path, stop: StopRequest) -> dict[str, Any]:
    """Run all seeds; one that diverges does not stop the others."""
    record_environment(directory)
    summaries, diverged = [], []
    for seed in range(experiment.seed, experiment.seed + experiment.seeds):
        path, one = seed_directory(directory, seed), experiment.of_seed(seed)
        with locked_run(path):
            if not is_run(path):
                start_run(path, one, None)
            elif read_experiment(path) != one:
                raise ConfigError(f"{path}: it holds another run than that of seed {seed} in {directory}")
            try:
                summaries.append(_run_one(one, path, stop))
            except Diverged as error:
                diverged.append(f"seed {seed}: {error}")
    if diverged:
        raise Diverged(f"{'; '.join(diverged)}; {len(summaries)} other seeds are done, each in its own directory")
    return join_seeds(directory, summaries)


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
    steps, seed, expected = summary.get("steps"), summary.get("seed"), total_steps(experiment.optimizer)
    if (steps, seed) != (expected, experiment.seed):
        raise ConfigError(
            f"{path}: optimizer.steps = {expected}, seed = {experiment.seed}: the finished run there took {steps} "
            f"meta-steps with seed {seed}"
        )
    return summary


class _Progress:
    """Progress bar of a run, or lines where there is no terminal; warnings go to standard error."""

    def __init__(self, bar: "tqdm[Any]", experiment: Experiment, label: str) -> None:
        self._bar, self._seed, self._metric = bar, f"seed {experiment.seed}", primary_metric(experiment.tasks)
        self._label, self._text, self._score, self._trouble = label, "", "", False

    def __call__(self, step: int, row: dict[str, Any]) -> None:
        bar = self._bar
        if "held_out" in row:
            self._score = f", {self._label} {row['held_out'][self._metric]:.3f}"
        if "loss" in row:
            self._text = f"loss {row['loss']:.3f}{self._score}"
        bar.set_description(f"{self._seed}: meta-training", refresh=False)
        bar.set_postfix_str(self._text, refresh=False)
        bar.update(step - bar.n)
        trouble = row.get("trouble")
        if trouble and not self._trouble:
            bar.write(f"{self._seed}, meta-step {step}: {trouble}", file=sys.stderr)
        self._trouble = bool(trouble)
        if bar.disable and "held_out" in row:
            print(f"{self._seed}: meta-step {step} of {bar.total}, {self._text}", flush=True)
