"""Let a learned rule go on learning on new tasks: `python -m metarule.adapt RUN_DIR [--section.field VALUE …]`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
from metarule.config.toml import ConfigError, decode
from metarule.lifetime.learner import Lifetime
from metarule.prng import Purpose, run_key, stream
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import RULES
from metarule.runs import artifacts, figures
from metarule.runs.experiment import FREE_TABLES, Experiment
from metarule.runs.finished import EvaluationOptions, Trial, describe_novelty, new_place, opened, read_trial
from metarule.runs.results import write_curves
from metarule.tasks.base import primary_metric
from metarule.types import PRNGKey, Theta

__all__ = ["FIELDS", "USAGE", "main"]

_OWN = "adaptation"
FIELDS = (Source(EvaluationOptions), Source(Adaptation, table=_OWN), Source(Experiment, only=FREE_TABLES))
USAGE = """\
usage: metarule adapt RUN_DIR [--OPTION VALUE ...] [--TABLE.FIELD VALUE ...]

Let the rule that a finished run has learned go on learning on each of some new tasks: rule steps and θ steps alternate,
and the weights are not drawn again. Compared are the learned rule with θ frozen, and adapting from a random θ and from
the delta rule, on the same tasks from the same weights. The learning rate of θ is picked on training tasks of the new
family, for each start alike; of data of which no class is held out these are made of the same examples.

  RUN_DIR                directory of a run of one seed
  --TABLE.FIELD VALUE    set a field of the config, otherwise as in the run; output neurons follow the tasks
  --help [TABLE]         this text, or the fields of a table
"""
# Networks are looked at after each window, and the starts are given.
_IDLE = ("monitor_every", "monitor_lifetimes", "points", "baselines")
# Size of a random θ, in units.
_SPREAD = 0.1
# With whom the others are compared, and the classic rule from which θ begins, too.
_LEARNED, _CLASSIC = "learned, adapting", "delta"


class _Start(NamedTuple):
    """Where θ begins, and whether it moves."""

    theta: Theta
    moves: bool


def main(words: list[str]) -> int:
    """Run the command.

    Args:
        words: of the command line, without the program's name.

    Returns:
        Exit status: 0 done, 1 if a device or disk failed or a figure could not be drawn, 2 bad input, 128 +
        signal if stopped.
    """
    return cli.run("metarule.adapt", words, USAGE, _serve, "what was written before is kept", FIELDS)


def _serve(words: list[str]) -> int:
    with opened(words[0]) as run:
        trial = read_trial(run, words[1:], _OWN, _IDLE)
        with new_place(run, artifacts.ADAPTATIONS, trial.look.directory) as path:
            return _run(trial, path)


@figures.drawn_last()
def _run(trial: Trial, path: Path) -> int:
    run, experiment, look, _, rest = trial
    try:
        adaptation = decode(rest, Adaptation)
    except ConfigError as error:
        raise ConfigError(f"{_OWN}.{error}") from error
    if experiment.inner_loop.steps % adaptation.window:
        raise ConfigError(
            f"{_OWN}.window = {adaptation.window}: windows make up a lifetime of {experiment.inner_loop.steps} "
            "steps (inner_loop.steps); allowed: what divides that"
        )
    of = describe_novelty(run, experiment)
    print(f"{of}: {trial.lifetimes} networks", flush=True)
    starts = _starts(trial)
    if f"{_CLASSIC}, adapting" not in starts:
        print(f"left out: {_CLASSIC}: it is no point of this family of rules, or was not tuned by the run", flush=True)
    seen, tuned = _live(trial, starts, adaptation)
    score = primary_metric(experiment.tasks)
    rows, tasks = summarise(seen, experiment.lifetime, look.threshold, _LEARNED), len(np.unique(seen[_LEARNED].task))
    found = trial.tree() | {
        "adaptation": asdict(adaptation),
        "metric": score,
        "of": of,
        "tasks": tasks,
        "lifetimes": trial.lifetimes,
        "contenders": {name: row | tuned.get(name, {}) for name, row in rows.items()},
    }
    artifacts.write_json(path / "summary.json", found)
    write_curves(path, seen, experiment.lifetime, of)
    shown = {name + (f" (rate {tuned[name]['rate']:.2g})" if name in tuned else ""): row for name, row in rows.items()}
    title = f"{of}, {count_text(tasks, 'tasks')}"
    print(f"\n{rows_table(title, score, shown, look.threshold)}\n")
    print(f"figures: {path / artifacts.FIGURES}   numbers: {path / 'summary.json'}")
    return 0


def _live(
    trial: Trial, starts: Mapping[str, _Start], adaptation: Adaptation
) -> tuple[dict[str, Curves], dict[str, dict[str, Any]]]:
    """Curves of each start on test tasks, and how the rates of those that adapt were tuned on training tasks."""
    experiment, budget = trial.experiment, trial.experiment.evaluation.lifetimes
    key, split = stream(run_key(experiment.seed), Purpose.TUNING), experiment.split
    seen, tuned = dict[str, Curves](), dict[str, dict[str, Any]]()
    for name, start in tqdm(starts.items(), desc="adapting", unit="start", disable=None):
        rate = 0.0
        if start.moves:
            best = tune_adaptation(experiment.lifetime, start.theta, split.train, key, budget, adaptation)
            rate = best.rate
            tuned[name] = best._asdict()
        learning_curves = adaptation_curves(
            experiment.lifetime, start.theta, split.test, trial.key, trial.lifetimes, adaptation, rate, trial.tasks
        )
        seen[name] = jax.device_get(learning_curves)
    return seen, tuned


def _starts(trial: Trial) -> dict[str, _Start]:
    """Where θ begins, by name; that of a classic rule only where it is a point of the learned one's family."""
    run, lifetime = trial.run, trial.experiment.lifetime
    key = jax.random.fold_in(stream(run_key(trial.experiment.seed), Purpose.ADAPTATION), trial.look.draw)
    starts = {
        _LEARNED: _Start(run.theta, moves=True),
        "learned, frozen": _Start(run.theta, moves=False),
        "random, adapting": _Start(_random(lifetime, key), moves=True),
    }
    classic = _classic(lifetime, run.rates.get(_CLASSIC))
    if classic is not None:
        starts[f"{_CLASSIC}, adapting"] = _Start(classic, moves=True)
        starts[f"{_CLASSIC}, frozen"] = _Start(classic, moves=False)
    return starts


def _random(lifetime: Lifetime, key: PRNGKey) -> Theta:
    """Normal numbers in units of θ."""
    leaves, treedef = jax.tree.flatten(lifetime.theta_scale())
    keys = jax.random.split(key, len(leaves))
    drawn = [_SPREAD * unit * jax.random.normal(one, unit.shape) for one, unit in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, drawn)


def _classic(lifetime: Lifetime, rate: float | None) -> Theta | None:
    """The delta rule at its tuned rate as a point of the rule's own family."""
    rule, term = lifetime.rule, RULES[_CLASSIC]
    if rate is None or not isinstance(rule, Polynomial) or term not in rule.names:
        return None
    point = replace(rule, initial=immutabledict({term: rate}), initial_spread=0.0)
    return replace(lifetime, rule=point).init_theta(run_key(0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
