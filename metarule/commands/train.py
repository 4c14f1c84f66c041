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
from metarule.runs import artifacts
from metarule.runs.experiment import Experiment, read_experiment_file
from metarule.runs.phenomena import phenomena_table
from metarule.runs.results import across_seeds, judge
from metarule.runs.stopping import Diverged, Stopped, StopRequest
from metarule.runs.training import train
from metarule.tasks.base import primary_metric

__all__ = ["FIELDS", "USAGE", "main"]

FIELDS = (Source(Experiment),)
USAGE = """\
usage: metarule train CONFIG [--TABLE.FIELD VALUE ...] [--overwrite]
       metarule train --resume RUN_DIR

Learn a learning rule as CONFIG says, and compare it on held-out tasks with tuned baselines.

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
    with ExitStack() as held, processes.place(partial(_begun, words, held)) as directory:
        return _run(artifacts.read_experiment(directory), directory)


def _begun(words: list[str], held: ExitStack) -> Path:
    """Directory of the run that is asked for, a new one or one to go on with, where others are kept out."""
    if words[0] == "--resume":
        if len(words) != 2:
            raise ConfigError("--resume takes one run directory and --devices alone: the run goes on as it was begun")
        directory = Path(words[1])
        artifacts.read_experiment(directory)
        if (directory / artifacts.FORMS).exists():
            again = f"python -m metarule.evolve --resume {shlex.quote(str(directory))}"
            raise ConfigError(f"{directory}: it holds a search for forms; go on with: {again}")
        held.enter_context(artifacts.claimed(directory))
    elif words[0].startswith("-"):
        raise ConfigError(f"'{words[0]}': a config file comes first, or --resume; see --help")
    else:
        config, overwrite = Path(words[0]), "--overwrite" in words
        pairs = parse_overrides([word for word in words[1:] if word != "--overwrite"])
        experiment, given = read_experiment_file(config, pairs)
        directory = _directory(experiment, config)
        held.enter_context(artifacts.claimed(directory))
        artifacts.start(directory, experiment, given, overwrite)
    return directory


def _directory(experiment: Experiment, config: Path) -> Path:
    if experiment.run.directory:
        return Path(experiment.run.directory)
    last = experiment.seed + experiment.seeds - 1
    seeds = f"s{experiment.seed}" + (f"-{last}" if experiment.seeds > 1 else "")
    return artifacts.named_by_time(Path("runs", config.stem), f"-{seeds}")


def _run(experiment: Experiment, directory: Path) -> int:
    print(f"run: {directory}", flush=True)
    _, reason = resolved(experiment.optimizer, experiment.lifetime, runs=1)
    if reason:
        print(reason, flush=True)
    try:
        with StopRequest() as stop:
            if experiment.seeds == 1:
                summary = _one(experiment, directory, stop)
            else:
                summary = _several(experiment, directory, stop)
    except Stopped as stopped:
        print(
            f"\n{stopped}; go on with: python -m metarule.train --resume {shlex.quote(str(directory))}", file=sys.stderr
        )
        return 128 + stopped.signal_number
    except Diverged as diverged:
        print(f"metarule.train: {diverged}", file=sys.stderr)
        return 1
    print(f"\n{_shown(summary)}\n")
    print(f"figures: {directory / artifacts.FIGURES}   numbers: {directory / 'summary.json'}")
    return 0


def _shown(summary: dict[str, Any]) -> str:
    """A summary for the screen; that of several seeds has no equation."""
    parts = [held_out_table(summary["held_out"])]
    parts += [phenomena_table(summary["phenomena"])] if "phenomena" in summary else []
    parts += [contributions_table(summary["contributions"])] if "contributions" in summary else []
    parts += [summary["equation"]] if "equation" in summary else []
    return "\n\n".join(parts)


def _several(experiment: Experiment, directory: Path, stop: StopRequest) -> dict[str, Any]:
    """All seeds; one with nothing to learn from does not keep the others from being run."""
    artifacts.join_environment(directory)
    summaries, diverged = [], []
    for seed in range(experiment.seed, experiment.seed + experiment.seeds):
        try:
            summaries.append(_seed(experiment, directory, seed, stop))
        except Diverged as error:
            diverged.append(f"seed {seed}: {error}")
    if diverged:
        raise Diverged(f"{'; '.join(diverged)}; {len(summaries)} other seeds are done, each in its own directory")
    return across_seeds(directory, summaries)


def _seed(experiment: Experiment, directory: Path, seed: int, stop: StopRequest) -> dict[str, Any]:
    path = artifacts.seed_directory(directory, seed)
    one = experiment.of_seed(seed)
    with artifacts.claimed(path):
        if not artifacts.holds_run(path):
            artifacts.start(path, one, None)
        elif artifacts.read_experiment(path) != one:
            raise ConfigError(f"{path}: it holds another run than that of seed {seed} in {directory}")
        return _one(one, path, stop)


def _one(experiment: Experiment, path: Path, stop: StopRequest) -> dict[str, Any]:
    """One run from where its directory has it; a run that is finished is only read."""
    file = path / "summary.json"
    done = artifacts.read_json(file) or {}
    if "held_out" in done:
        try:
            _shown(done)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{file}: damaged: it is no summary: {type(error).__name__} {error}") from error
        if (done.get("seed"), done.get("steps")) != (experiment.seed, total_steps(experiment.optimizer)):
            raise ConfigError(
                f"{path}: optimizer.steps = {total_steps(experiment.optimizer)}, seed = {experiment.seed}: the run that is "
                f"finished there took {done.get('steps')} meta-steps with seed {done.get('seed')}"
            )
        return done
    artifacts.join_environment(path)
    score, last = primary_metric(experiment.tasks), dict[str, Any]()
    of = describe_split(experiment.split)
    where = "held-out" if of == HELD_OUT else "training"
    steps = total_steps(experiment.optimizer)
    with tqdm(total=steps, desc=f"seed {experiment.seed}: compiling", unit="step", disable=None) as bar:

        def progress(step: int, row: dict[str, Any]) -> None:
            last.update({key: row[key] for key in ("loss", "held_out") if key in row})
            held_out = f", {where} {score} {last['held_out'][score]:.3f}" if "held_out" in last else ""
            text = f"loss {last['loss']:.3f}{held_out}" if "loss" in last else ""
            bar.set_description(f"seed {experiment.seed}: meta-training", refresh=False)
            bar.set_postfix_str(text, refresh=False)
            bar.update(step - bar.n)
            if row.get("trouble") and not last.get("trouble"):
                bar.write(f"seed {experiment.seed}, meta-step {step}: {row['trouble']}", file=sys.stderr)
            last["trouble"] = row.get("trouble")
            if bar.disable and "held_out" in row:
                print(f"seed {experiment.seed}: meta-step {step} of {steps}, {text}", flush=True)

        trained = train(experiment, path, stop, progress)
    print(f"tuning the baselines and measuring on {of} …", flush=True)
    return judge(experiment, path, trained, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
