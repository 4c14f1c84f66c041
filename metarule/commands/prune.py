"""Prune a learned rule: `metarule prune RUN_DIR [--OPTION VALUE …]`."""

import time
from typing import Annotated, Any

import jax
import numpy as np
from immutabledict import immutabledict
from msgspec import Meta
from msgspec.structs import asdict, replace
from tqdm import tqdm

from metarule.analysis.ablation import contribution_report, contributions_table, removable_terms, scores_by_task
from metarule.analysis.comparison import count_text, describe_split
from metarule.analysis.pruning import Trial, prune
from metarule.analysis.readback import read_back, readback_table
from metarule.analysis.statistics import interval, interval_text
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.schema import Checked
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.reports.page import print_report
from metarule.rules.expansion import expand
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
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

A rule that is a network (mlp), or your own if --terms is given, is read back as an equation: terms are fitted to its Δw
by least squares, over the states that synapses visit, until R² on other lifetimes is within the tolerance of the best.
R² of the equation and its score in place of the rule are those on held-out tasks, which do not affect the terms. The
equation is written to readback.npz and readback.json.

  RUN_DIR                directory of a run of one seed, or of a member of a sweep; in a rule of your own, a term is a
                         parameter
  --help [TABLE]         this text, or the fields of a table
"""
# Training tasks below which removals may not generalise.
_FEW = 16


class Options(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of pruning.

    Attributes:
        tolerance: largest drop of the score on training tasks, or of R² where a rule is read back.
        lifetimes: lifetimes in each of the three draws, for the order, the removals (or the number of terms) and the
            report.
        terms: candidate terms or families of the equation as which a rule is read back; by default
            `taylor(VARIABLES; 2)` with the variables that the rule reads.

    Raises:
        ValueError: a text that is no term, or a term given twice.
    """

    tolerance: Annotated[float, Meta(ge=0)] = 0.01
    lifetimes: Annotated[int, Meta(ge=2, le=1_000_000)] = 512
    terms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.terms:
            expand(self.terms, immutabledict(), ())


FIELDS = (Source(Options),)


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule prune", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with open_run(words[0]) as run:
        status = _run(run, decode(dict(parse_overrides(words[1:])), Options))
        print_report(run.directory)
    return status


def _run(run: FinishedRun, options: Options) -> int:
    rule, clock = run.learner.rule, time.perf_counter()
    if options.terms and isinstance(rule, Polynomial):
        allowed = "allowed: with a rule that is a network (mlp) or your own"
        raise ConfigError(f"terms = {list(options.terms)}: this rule is a polynomial already; {allowed}")
    is_read_back = isinstance(rule, MLP) or options.terms
    learner, theta, report, name = (_read_back if is_read_back else _prune)(run, options)
    report |= {"options": asdict(options), "seconds": time.perf_counter() - clock}
    save_theta(run.directory, theta, theta_meaning(learner) | report, name=name)
    print(f"θ: {run.directory / name}.npz   numbers: {run.directory / name}.json")
    return 0


def _prune(run: FinishedRun, options: Options) -> tuple[Lifetime, Theta, dict[str, Any], str]:
    """Remove terms; returns the learner, the shorter θ, the report and the name of the files."""
    lifetime, split, key = run.learner, run.config.split, run_key(run.config.seed)
    count, metric = len(removable_terms(lifetime, run.theta)), primary_metric(lifetime.tasks)
    print(f"{run.equation}\n", flush=True)
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
    report = _described(lifetime, pruned.theta) | {
        "removed": pruned.removed,
        "training_tasks": pruned.training_tasks,
        "held_out": _held_out(run, options, pruned.before, pruned.after),
        "trials": pruned.trials,
        "contributions": contributions,
    }
    few = "; these are few, and the shorter rule may be good on them alone" if pruned.training_tasks < _FEW else ""
    decided = f"(removals were decided on {count_text(pruned.training_tasks, 'training tasks')}{few})"
    print(f"\n{_table(report['held_out'])}\n{decided}\n")
    print(f"{len(pruned.removed)} of {count} terms removed:\n\n{report['equation']}\n")
    return lifetime, pruned.theta, report, "pruned"


def _read_back(run: FinishedRun, options: Options) -> tuple[Lifetime, Theta, dict[str, Any], str]:
    """Read a rule back; returns the learner with the polynomial, its θ, the report and the name of the files."""
    lifetime, split = run.learner, run.config.split
    fit_key, score_key = jax.random.split(stream(run_key(run.config.seed), Purpose.PRUNING))
    print(f"{run.equation}\n", flush=True)
    found = read_back(lifetime, run.theta, split, fit_key, options.lifetimes, options.terms, options.tolerance)
    of, learner = describe_split(split), replace(lifetime, rule=found.rule)
    diverged = 3 * options.lifetimes - sum(found.fits[0].lifetimes)
    omitted = f"; {count_text(diverged, 'lifetimes')} diverged and left out" if diverged else ""
    chosen = f"(terms were chosen on other lifetimes, of training tasks{omitted})"
    print(f"{readback_table(found, of)}\n{chosen}\n", flush=True)
    rules = ((lifetime, run.theta), (learner, found.theta))
    before, after = (scores_by_task(*rule, split.test, score_key, options.lifetimes) for rule in rules)
    report = _described(learner, found.theta) | {
        "terms": found.rule.terms,
        "candidates": found.candidates,
        "fits": found.fits,
        "held_out": _held_out(run, options, before, after),
    }
    print(f"{_table(report['held_out'])}\n\nR² {found.r2:.4f} on {of}:\n\n{found.equation}\n")
    return learner, found.theta, report, "readback"


def _described(learner: Lifetime, theta: Theta) -> dict[str, Any]:
    return {"equation": learner.equation(theta), "theta": flat_parameters(learner, theta)}


def _held_out(run: FinishedRun, options: Options, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Scores of two rules on the same held-out tasks, and their difference."""
    return {
        "metric": primary_metric(run.learner.tasks),
        "of": describe_split(run.config.split),
        "tasks": before.size,
        "lifetimes": options.lifetimes,
        "before": interval(before, share=True)._asdict(),
        "after": interval(after, share=True)._asdict(),
        "difference": interval(after - before)._asdict(),
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
