"""Adapt a learned rule to new tasks: `metarule adapt RUN_DIR [--TABLE.FIELD VALUE …]`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from immutabledict import immutabledict
from msgspec.structs import asdict, replace
from tqdm import tqdm

from metarule.analysis.adaptation import Adaptation, adaptation_curves, tune_adaptation
from metarule.analysis.comparison import count_text, rows_table, summarise
from metarule.analysis.evaluation import Curves
from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import ConfigError, decode_table, override
from metarule.lifetime.initial import learns_initial
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Recorded
from metarule.reports.page import print_report
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import RULES
from metarule.runs import figures
from metarule.runs.directory import ADAPTATIONS, FIGURES
from metarule.runs.experiment import FREE_TABLES, Experiment
from metarule.runs.files import write_json
from metarule.runs.results import write_curves
from metarule.runs.transfer import EvaluationOptions, Transfer, new_folder, open_run, parse_transfer
from metarule.tasks.base import primary_metric
from metarule.types import PRNGKey, Theta

__all__ = ["FIELDS", "USAGE", "main"]

_OWN = "adaptation"
FIELDS = (Source(EvaluationOptions), Source(Adaptation, table=_OWN), Source(Experiment, only=FREE_TABLES))
USAGE = """\
usage: metarule adapt RUN_DIR [--OPTION VALUE ...] [--TABLE.FIELD VALUE ...]

Continue to learn θ on each of some new tasks: a θ step follows each window of the lifetime, and the weights are not
drawn again. Compared are the learned θ, adapting and frozen, a random θ and the delta rule, on the same tasks from the
same weights. The learning rate of θ is tuned for each on training tasks of the new family. If a dataset holds out no
classes, these training tasks are made of the same examples as the test tasks.

  RUN_DIR                directory of a run of one seed, or of a member of a sweep
  --TABLE.FIELD VALUE    set a field of the config, otherwise as in the run; output neurons follow the tasks
  --help [TABLE]         this text, or the fields of a table
"""
# The points are the ends of the windows, and the contenders are fixed.
_UNUSED = ("monitor_every", "monitor_lifetimes", "theta", "points", "baselines")
# Standard deviation of the random θ, in parameter scales.
_SPREAD = 0.1
# The reference of the differences, and the classic rule among the starts.
_LEARNED, _CLASSIC = "learned, adapting", "delta"


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule adapt", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with open_run(words[0]) as run:
        transfer = parse_transfer(run, words[1:], _OWN, _UNUSED)
        if isinstance(transfer.experiment.tasks, Recorded):
            raise ConfigError("tasks.kind: these tasks are recordings, to which nothing adapts; use: metarule infer")
        with new_folder(run.directory / ADAPTATIONS, transfer.options.directory) as path:
            status = _run(transfer, path)
        print_report(run.directory, path)
    return status


@figures.drawn_last()
def _run(transfer: Transfer, path: Path) -> int:
    lifetime, options, steps = transfer.experiment.lifetime, transfer.options, transfer.experiment.inner_loop.steps
    adaptation = decode_table(override({}, transfer.rest), _OWN, Adaptation)
    if steps % adaptation.window:
        allowed = f"divisors of the {steps} steps of a lifetime (inner_loop.steps)"
        raise ConfigError(f"{_OWN}.window = {adaptation.window}: allowed: {allowed}")
    print(f"{transfer.novelty}: {transfer.lifetimes} networks", flush=True)
    starts = _starts(transfer)
    if f"{_CLASSIC}, adapting" not in starts:
        reason = "the rule cannot express it, the run did not tune it, or initial weights are learned"
        print(f"left out: {_CLASSIC}: {reason}", flush=True)
    curves, tuned = _adapt(transfer, starts, adaptation)
    score, tasks = primary_metric(lifetime.tasks), len(np.unique(curves[_LEARNED].task))
    rows = summarise(curves, lifetime, options.threshold, _LEARNED)
    summary = transfer.tree() | {
        "adaptation": asdict(adaptation),
        "metric": score,
        "of": transfer.novelty,
        "tasks": tasks,
        "lifetimes": transfer.lifetimes,
        "contenders": {name: row | tuned.get(name, {}) for name, row in rows.items()},
    }
    write_json(path / "summary.json", summary)
    write_curves(
        path, curves, lifetime, summary | {"threshold": options.threshold}, figures.run_name(transfer.run.directory)
    )
    rates = {name: f" (rate {best['rate']:.2g})" for name, best in tuned.items()}
    labelled = {name + rates.get(name, ""): row for name, row in rows.items()}
    title = f"{transfer.novelty}, {count_text(tasks, 'tasks')}"
    print(f"\n{rows_table(title, score, labelled, options.threshold)}\n")
    print(f"figures: {path / FIGURES}   numbers: {path / 'summary.json'}")
    return 0


def _adapt(
    transfer: Transfer, starts: Mapping[str, tuple[Theta, bool]], adaptation: Adaptation
) -> tuple[dict[str, Curves], dict[str, dict[str, Any]]]:
    """Curves of each start on test tasks, and the tuning of the learning rates on training tasks."""
    experiment, lifetimes = transfer.experiment, transfer.experiment.evaluation.lifetimes
    lifetime, split = experiment.lifetime, experiment.split
    key = stream(run_key(experiment.seed), Purpose.TUNING)
    curves, tuned = dict[str, Curves](), dict[str, dict[str, Any]]()
    draw = (split.test, transfer.key, transfer.lifetimes)
    for name, (theta, adapts) in tqdm(starts.items(), desc="adapting", unit="start", disable=None):
        rate = 0.0
        if adapts:
            best = tune_adaptation(lifetime, theta, split.train, key, lifetimes, adaptation)
            rate, tuned[name] = best.rate, best._asdict()
        curves[name] = jax.device_get(adaptation_curves(lifetime, theta, *draw, adaptation, rate, transfer.tasks))
    return curves, tuned


def _starts(transfer: Transfer) -> dict[str, tuple[Theta, bool]]:
    """Initial θ of each contender, and whether it adapts; the classic rule only if the rule can express it."""
    run, lifetime = transfer.run, transfer.experiment.lifetime
    key = jax.random.fold_in(stream(run_key(transfer.experiment.seed), Purpose.ADAPTATION), transfer.options.draw)
    starts = {
        _LEARNED: (run.theta, True),
        "learned, frozen": (run.theta, False),
        "random, adapting": (_random_theta(lifetime, key), True),
    }
    classic = _classic_theta(lifetime, run.rates.get(_CLASSIC))
    if classic is not None:
        starts |= {f"{_CLASSIC}, adapting": (classic, True), f"{_CLASSIC}, frozen": (classic, False)}
    return starts


def _random_theta(lifetime: Lifetime, key: PRNGKey) -> Theta:
    """θ ~ N(0, (0.1 · parameter scale)²), and initial weights as they are drawn where they are learned."""
    leaves, treedef = jax.tree.flatten(lifetime.rule_theta(lifetime.theta_scale()))
    keys = jax.random.split(key, len(leaves))
    drawn = [_SPREAD * scale * jax.random.normal(one, scale.shape) for one, scale in zip(keys, leaves, strict=True)]
    return lifetime.with_rule_theta(lifetime.init_theta(key), jax.tree.unflatten(treedef, drawn))


def _classic_theta(lifetime: Lifetime, rate: float | None) -> Theta | None:
    """θ of the delta rule at its tuned rate; None if the rule cannot express it, or initial weights are learned."""
    rule, term = lifetime.rule, RULES[_CLASSIC]
    if rate is None or learns_initial(lifetime.circuit) or not isinstance(rule, Polynomial) or term not in rule.names:
        return None
    classic = replace(rule, initial=immutabledict({term: rate}), initial_spread=0.0)
    return replace(lifetime, rule=classic).init_theta(run_key(0))
