"""Prune a learned rule: `python -m metarule.prune RUN_DIR [--tolerance T] [--lifetimes N]`."""

import sys
import time
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import asdict
from tqdm import tqdm

from metarule.analysis.ablation import contribution_report, contributions_table, removable_terms
from metarule.analysis.comparison import count_text, describe_split
from metarule.analysis.pruning import Pruned, Trial, prune
from metarule.analysis.statistics import interval, interval_text
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import decode, parse_overrides
from metarule.prng import Purpose, run_key, stream
from metarule.runs.experiment import Experiment
from metarule.runs.finished import FinishedRun
from metarule.runs.theta_files import flat_parameters, save_theta, theta_meaning
from metarule.runs.transfer import open_run
from metarule.tasks.base import primary_metric
from metarule.types import Theta

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule prune RUN_DIR [--OPTION VALUE ...]

Print the contribution of each term of a learned rule, remove terms while the score on training tasks stays within the
tolerance, and print the shorter equation with its score on held-out tasks, which do not affect the removals. The
shorter rule is written to pruned.npz and pruned.json in the run's directory.

  RUN_DIR                directory of a run of one seed, whose rule is a polynomial
  --help [TABLE]         this text, or the fields of a table
"""


# Training tasks below which removals may not generalise.
_FEW = 16


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of pruning.

    Attributes:
        tolerance: largest drop of the score on training tasks.
        lifetimes: lifetimes in each of the three draws, for the order, the removals and the report.
    """

    tolerance: Annotated[float, Meta(ge=0)] = 0.01
    lifetimes: Annotated[int, Meta(ge=2, le=1_000_000)] = 512


FIELDS = (Source(Options),)


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a device or disk failed, 2 bad input, 128 + signal if stopped.
    """
    return cli.run("metarule.prune", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with open_run(words[0]) as run:
        return _run(run, decode(dict(parse_overrides(words[1:])), Options))


def _run(run: FinishedRun, options: Options) -> int:
    path, experiment, lifetime = run.directory, run.config, run.learner
    key = stream(run_key(experiment.seed), Purpose.CONTRIBUTIONS)
    count = len(removable_terms(lifetime, run.theta))
    print(f"{run.equation}\n", flush=True)
    clock = time.perf_counter()
    contributions = contribution_report(lifetime, run.theta, experiment.split, key, options.lifetimes)
    print(f"{contributions_table(contributions)}\n", flush=True)
    pruned = _prune(experiment, run.theta, options, 2 * count)
    report = _report(experiment, pruned, options)
    report |= {
        "contributions": contributions,
        "options": asdict(options),
        "seconds": time.perf_counter() - clock,
    }
    print(f"\n{_table(report['held_out'])}\n{_training_tasks_text(pruned.training_tasks)}\n")
    print(f"{len(report['removed'])} of {count} terms removed:\n\n{report['equation']}\n")
    save_theta(path, pruned.theta, theta_meaning(lifetime) | report, name="pruned")
    print(f"θ: {path / 'pruned.npz'}   numbers: {path / 'pruned.json'}")
    return 0


def _prune(experiment: Experiment, theta: Theta, options: Options, evaluations: int) -> Pruned:
    lifetime = experiment.lifetime
    with tqdm(total=evaluations, desc="evaluating shorter rules", unit="rule", disable=None) as bar:

        def progress(trial: Trial) -> None:
            if trial.outcome == "removed":
                tqdm.write(f"without {trial.term:<40} {primary_metric(lifetime.tasks)} {trial.score:.4f}")
            bar.update()

        return prune(
            lifetime,
            theta,
            experiment.split,
            stream(run_key(experiment.seed), Purpose.PRUNING),
            options.lifetimes,
            options.tolerance,
            progress,
        )


def _report(experiment: Experiment, pruned: Pruned, options: Options) -> dict[str, Any]:
    lifetime = experiment.lifetime
    return {
        "equation": lifetime.equation(pruned.theta),
        "theta": flat_parameters(lifetime, pruned.theta),
        "removed": pruned.removed,
        "training_tasks": pruned.training_tasks,
        "held_out": {
            "metric": primary_metric(lifetime.tasks),
            "of": describe_split(experiment.split),
            "tasks": pruned.before.size,
            "lifetimes": options.lifetimes,
            "before": interval(pruned.before, share=True)._asdict(),
            "after": interval(pruned.after, share=True)._asdict(),
            "difference": interval(pruned.after - pruned.before)._asdict(),
        },
        "trials": pruned.trials,
    }


def _table(held_out: dict[str, Any]) -> str:
    """Scores before and after pruning, with intervals over tasks."""
    title = f"{held_out['of']}, {count_text(held_out['tasks'], 'tasks')}"
    width = max(34, len(title) - 2)
    lines = [f"{title:<{width + 2}}{held_out['metric']:>9}   95 % interval"]
    for name in ("before", "after", "difference"):
        row, label = held_out[name], "after − before" if name == "difference" else name
        lines.append(f"  {label:<{width}}{row['mean']:>9.4f}   {interval_text(row['low'], row['high'])}")
    return "\n".join(lines)


def _training_tasks_text(tasks: int) -> str:
    few = "; these are few, and the shorter rule may be good on them alone" if tasks < _FEW else ""
    return f"(removals were decided on {count_text(tasks, 'training tasks')}{few})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
