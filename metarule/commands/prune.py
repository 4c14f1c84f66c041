"""Prune a learned rule: `metarule prune RUN_DIR [--OPTION VALUE …]`."""

import time
from typing import Annotated, Any

from msgspec import Meta
from msgspec.structs import asdict
from tqdm import tqdm

from metarule.analysis.ablation import contribution_report, contributions_table, removable_terms
from metarule.analysis.comparison import count_text, describe_split
from metarule.analysis.pruning import Trial, prune
from metarule.analysis.statistics import interval, interval_text
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import decode, parse_overrides
from metarule.prng import Purpose, run_key, stream
from metarule.runs.finished import FinishedRun
from metarule.runs.theta_files import flat_parameters, save_theta, theta_meaning
from metarule.runs.transfer import open_run
from metarule.tasks.base import primary_metric

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule prune RUN_DIR [--OPTION VALUE ...]

Print the contribution of each term of a learned rule, remove terms while the score on training tasks stays within the
tolerance, and print the shorter equation with its score on held-out tasks, which do not affect the removals. The
shorter rule is written to pruned.npz and pruned.json in the run's directory.

  RUN_DIR                directory of a run of one seed, or of a member of a sweep, whose rule is a polynomial or your
                         own (a term is a parameter)
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
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule prune", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with open_run(words[0]) as run:
        return _run(run, decode(dict(parse_overrides(words[1:])), Options))


def _run(run: FinishedRun, options: Options) -> int:
    path, lifetime, split, key = run.directory, run.learner, run.config.split, run_key(run.config.seed)
    count, metric = len(removable_terms(lifetime, run.theta)), primary_metric(lifetime.tasks)
    print(f"{run.equation}\n", flush=True)
    clock = time.perf_counter()
    contributions_key = stream(key, Purpose.CONTRIBUTIONS)
    contributions = contribution_report(lifetime, run.theta, split, contributions_key, options.lifetimes)
    print(f"{contributions_table(contributions)}\n", flush=True)
    with tqdm(total=2 * count, desc="evaluating shorter rules", unit="rule", disable=None) as bar:

        def progress(trial: Trial) -> None:
            if trial.outcome == "removed":
                tqdm.write(f"without {trial.term:<40} {metric} {trial.score:.4f}")
            bar.update()

        pruning_key = stream(key, Purpose.PRUNING)
        pruned = prune(lifetime, run.theta, split, pruning_key, options.lifetimes, options.tolerance, progress)
    report: dict[str, Any] = {
        "equation": lifetime.equation(pruned.theta),
        "theta": flat_parameters(lifetime, pruned.theta),
        "removed": pruned.removed,
        "training_tasks": pruned.training_tasks,
        "held_out": {
            "metric": metric,
            "of": describe_split(split),
            "tasks": pruned.before.size,
            "lifetimes": options.lifetimes,
            "before": interval(pruned.before, share=True)._asdict(),
            "after": interval(pruned.after, share=True)._asdict(),
            "difference": interval(pruned.after - pruned.before)._asdict(),
        },
        "trials": pruned.trials,
        "contributions": contributions,
        "options": asdict(options),
        "seconds": time.perf_counter() - clock,
    }
    few = "; these are few, and the shorter rule may be good on them alone" if pruned.training_tasks < _FEW else ""
    decided = f"(removals were decided on {count_text(pruned.training_tasks, 'training tasks')}{few})"
    print(f"\n{_table(report['held_out'])}\n{decided}\n")
    print(f"{len(pruned.removed)} of {count} terms removed:\n\n{report['equation']}\n")
    save_theta(path, pruned.theta, theta_meaning(lifetime) | report, name="pruned")
    print(f"θ: {path / 'pruned.npz'}   numbers: {path / 'pruned.json'}")
    return 0


def _table(held_out: dict[str, Any]) -> str:
    """Scores before and after pruning, with intervals over tasks."""
    title = f"{held_out['of']}, {count_text(held_out['tasks'], 'tasks')}"
    width = max(34, len(title) - 2)
    lines = [f"{title:<{width + 2}}{held_out['metric']:>9}   95 % interval"]
    for name in ("before", "after", "difference"):
        row, label = held_out[name], "after − before" if name == "difference" else name
        lines.append(f"  {label:<{width}}{row['mean']:>9.4f}   {interval_text(row['low'], row['high'])}")
    return "\n".join(lines)
