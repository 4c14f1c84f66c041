"""Execution of whole runs, from wherever their directories stand: meta-training, baselines, results."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from metarule.analysis.ablation import contributions_table
from metarule.analysis.comparison import HELD_OUT, describe_split, held_out_table
from metarule.config.imports import allowed_imports, is_import_path, is_users_own, members_of, modules_of
from metarule.config.schema import leaves
from metarule.config.toml import ConfigError, decode
from metarule.meta import GaussNewton
from metarule.meta.phases import total_steps
from metarule.parallel.devices import spread
from metarule.protocols import Recorded
from metarule.runs.directory import (
    is_extended,
    is_run,
    locked_run,
    read_experiment,
    seed_directory,
    start_run,
    timestamped,
)
from metarule.runs.environment import record_environment
from metarule.runs.experiment import Experiment, to_tree
from metarule.runs.figures.canvas import formats
from metarule.runs.files import plain, read_json
from metarule.runs.finished import FinishedRun, load
from metarule.runs.inference import in_double_precision, write_inference
from metarule.runs.inference_tables import inference_table
from metarule.runs.loggers.base import Logger
from metarule.runs.loggers.names import require_packages
from metarule.runs.loggers.session import opened_loggers
from metarule.runs.longer import continue_run
from metarule.runs.phenomena import phenomena_table
from metarule.runs.results import join_seeds, write_results
from metarule.runs.stopping import Diverged, Stopped, StopRequest
from metarule.runs.theta_files import given_files
from metarule.runs.training import train
from metarule.runs.validation import pools_of, report_text
from metarule.tasks.base import primary_metric
from metarule.tasks.subsets import shared_tasks

__all__ = ["Screen", "check_start", "execute", "run", "summary_text"]


class Screen(NamedTuple):
    """Display of progress.

    Attributes:
        bars: whether progress bars are drawn; None for terminals only, and lines elsewhere.
        lines: whether lines are printed.
        loggers: loggers besides those that the experiment names.
    """

    bars: bool | None = None
    lines: bool = True
    loggers: Sequence[Logger] = ()

    def say(self, line: str) -> None:
        """Print a line on standard output."""
        if self.lines:
            print(line, flush=True)


def run(
    experiment: Experiment,
    directory: str | Path = "",
    overwrite: bool = False,
    progress: bool = True,
    loggers: Sequence[Logger] = (),
) -> FinishedRun | tuple[FinishedRun, ...]:
    """Run a whole experiment in a directory, and continue a run that was stopped there.

    It does what `metarule train` does, or with recordings `metarule infer`.
    What it leaves is a run like any other: commands evaluate, adapt and prune it. Components of your own modules are
    stored by their import path, so that a later process can import them.

    Args:
        experiment: the experiment.
        directory: the run directory; empty for `experiment.run.directory`, or else `runs/python/<time>-s<seed>`.
        overwrite: replace an earlier run there.
        progress: whether progress is shown.
        loggers: your own loggers, besides those of `experiment.run.loggers`.

    Returns:
        The finished run, or those of all seeds where there are several.

    Raises:
        ConfigError: a component that no config can hold, or a directory that holds another run or is in use.
        Diverged: no lifetime of many meta-steps was usable.
        KeyboardInterrupt: Ctrl-C; the same call continues.
    """
    _check_writable(experiment)
    for logger in loggers:
        if not isinstance(logger, Logger):
            raise ConfigError(f"loggers: {logger!r} is no Logger, which has {', '.join(members_of(Logger))}")
    given = str(directory) or experiment.run.directory
    path = Path(given) if given else timestamped(Path("runs", "python"), f"-s{experiment.seed}")
    with ExitStack() as stack:
        stack.enter_context(allowed_imports(_own_modules(experiment)))
        check_start(experiment)
        stack.enter_context(spread())
        stack.enter_context(locked_run(path))
        if overwrite or not is_run(path):
            start_run(path, experiment, None, overwrite)
        elif field := _first_difference(read_experiment(path), experiment):
            reason = f"it holds another run, with {field}; choose another, or set overwrite"
            raise ConfigError(f"directory = '{path}': {reason}")
        try:
            with StopRequest() as stop:
                execute(experiment, path, stop, Screen(progress, progress, loggers))
        except Stopped as stopped:
            raise KeyboardInterrupt(f"{stopped} of {path}; the same call continues") from None
        if experiment.seeds == 1:
            return load(path)
        return tuple(load(seed_directory(path, seed)) for seed in experiment.all_seeds)


def execute(experiment: Experiment, path: Path, stop: StopRequest, screen: Screen) -> dict[str, Any]:
    """Continue a run, or those of several seeds, to the end.

    Args:
        experiment: the experiment.
        path: its directory, laid out by `start_run` and locked.
        stop: request to stop.
        screen: display of progress.

    Returns:
        The summary.

    Raises:
        Stopped: on request; everything is saved.
        Diverged: no lifetime of many meta-steps was usable, for some seed; the other seeds are done.
        ConfigError: a damaged directory.
    """
    with formats(experiment.run.figure_formats):
        return (_one_seed if experiment.seeds == 1 else _all_seeds)(experiment, path, stop, screen)


def summary_text(summary: dict[str, Any]) -> str:
    """Summary for the screen; that of several seeds has no equation."""
    if "inference" in summary:
        return inference_table(summary["inference"])
    tables = {"held_out": held_out_table, "phenomena": phenomena_table, "contributions": contributions_table}
    parts = [text(summary[name]) for name, text in tables.items() if name in summary]
    last = [report_text(summary["reported"])] if "reported" in summary else []
    return "\n\n".join([*parts, *last, *([summary["equation"]] if "equation" in summary else [])])


def check_start(experiment: Experiment) -> None:
    """Refuse, by a ConfigError before anything is written, an experiment that cannot be trained or would mislead."""
    require_packages(experiment.run.loggers)
    pools_of(experiment)  # raises where there are no validation tasks
    if is_users_own(type(experiment.tasks)):
        shared, of = shared_tasks(experiment.tasks, experiment.split, experiment.seed)
        if shared and describe_split(experiment.split) == HELD_OUT:
            allowed = "allowed: disjoint pools, or equal ones where nothing is held out"
            raise ConfigError(f"tasks: {shared} of {of} test tasks are training tasks; {allowed}")


def _own_modules(experiment: Experiment) -> list[str]:
    """Modules of the components and loggers of an experiment that a program has made."""
    loggers = [name.partition(":")[0] for name in experiment.run.loggers if is_import_path(name)]
    return modules_of(to_tree(experiment)) + loggers


def _first_difference(one: Experiment, other: Experiment) -> str:
    """First field in which two experiments differ, with its value in the first; empty if they are equal."""
    values, others = (dict(leaves(plain(to_tree(each)))) for each in (one, other))
    names = [name for name in values | others if values.get(name) != others.get(name)]
    return f"{names[0]} = {values.get(names[0])!r}" if names else ""


def _check_writable(experiment: Experiment) -> None:
    """Refuse an experiment that its directory could not give back."""
    try:
        same = decode(to_tree(experiment), Experiment) == experiment
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not same:
        raise ConfigError("experiment: a component differs after it was written and read; its fields must define it")


def _all_seeds(experiment: Experiment, directory: Path, stop: StopRequest, screen: Screen) -> dict[str, Any]:
    """Run all seeds; one that diverges does not stop the others."""
    record_environment(directory)
    summaries, diverged = [], []
    for seed in experiment.all_seeds:
        path, one = seed_directory(directory, seed), experiment.of_seed(seed)
        with locked_run(path):
            if not is_run(path):
                start_run(path, one, None, files=given_files(directory))
            elif not continue_run(path, one, is_extended(directory)):
                raise ConfigError(f"{path}: it holds another run than that of seed {seed} in {directory}")
            try:
                summaries.append(_one_seed(one, path, stop, screen))
            except Diverged as error:
                diverged.append(f"seed {seed}: {error}")
    if diverged:
        raise Diverged(f"{'; '.join(diverged)}; {len(summaries)} other seeds are done, each in its own directory")
    return join_seeds(directory, summaries)


def _one_seed(experiment: Experiment, path: Path, stop: StopRequest, screen: Screen) -> dict[str, Any]:
    """Continue a run from its last checkpoint; of a finished run the summary is read."""
    if summary := _finished_summary(experiment, path):
        return summary
    record_environment(path)
    steps, tasks = total_steps(experiment.optimizer), describe_split(experiment.split)
    label = f"{'held-out' if tasks == HELD_OUT else 'training'} {primary_metric(experiment.tasks)}"
    hidden = None if screen.bars is None else not screen.bars
    with opened_loggers(experiment, path, screen.loggers) as log:
        is_newton = isinstance(experiment.optimizer, GaussNewton)
        precision = in_double_precision() if is_newton else nullcontext()
        name = f"seed {experiment.seed}: compiling"
        with precision, tqdm(total=steps, desc=name, unit="step", disable=hidden) as bar:
            trained = train(experiment, path, stop, _Progress(bar, experiment, label, screen), log)
        if isinstance(experiment.tasks, Recorded):
            summary = write_inference(experiment, path, trained, stop, screen.say)
            log.finish(summary)
            return summary
        screen.say(f"tuning the baselines and evaluating on {tasks} …")
        summary = write_results(experiment, path, trained, stop)
        log.finish(summary)
    return summary


def _finished_summary(experiment: Experiment, path: Path) -> dict[str, Any] | None:
    file = path / "summary.json"
    summary = read_json(file) or {}
    if "held_out" not in summary:
        return None
    try:
        summary_text(summary)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: damaged: it is no summary: {type(error).__name__} {error}") from error
    steps, seed, expected = summary.get("steps"), summary.get("seed"), total_steps(experiment.optimizer)
    planned = summary.get("reported", {}).get("planned", steps)
    if planned != expected and is_extended(path):
        return None
    if (planned, seed) != (expected, experiment.seed):
        raise ConfigError(
            f"{path}: optimizer.steps = {expected}, seed = {experiment.seed}: the finished run there took {steps} "
            f"meta-steps with seed {seed}"
        )
    return summary


class _Progress:
    """Progress bar of a run, or lines where there is none; warnings go to standard error."""

    def __init__(self, bar: "tqdm[Any]", experiment: Experiment, label: str, screen: Screen) -> None:
        self._bar, self._seed, self._metric = bar, f"seed {experiment.seed}", primary_metric(experiment.tasks)
        self._label, self._screen = label, screen
        self._text, self._score, self._trouble = "", "", False

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
            self._screen.say(f"{self._seed}: meta-step {step} of {bar.total}, {self._text}")
