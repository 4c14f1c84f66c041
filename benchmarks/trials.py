"""Trials that a network needs to find goals: `python -m benchmarks.trials --run DIRECTORY [--json FILE]`."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta, Struct

from benchmarks import program
from benchmarks.program import QUICK
from metarule import Navigation
from metarule.analysis.comparison import LEARNED, count_text
from metarule.analysis.evaluation import map_lifetimes, sample_lifetime
from metarule.analysis.statistics import confidence_band, interval, threshold_point
from metarule.config.toml import ConfigError
from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import step_at
from metarule.parallel.devices import sharded_jit
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Learner
from metarule.runs.figures.canvas import figure_of, picture
from metarule.runs.figures.methods import draw_threshold, style_of
from metarule.runs.finished import FinishedRun, load_seeds
from metarule.runs.transfer import contenders
from metarule.sweeps.rows import write_rows
from metarule.types import Integer, LearnerState, PRNGKey, Theta

__all__ = ["Options", "by_trial", "draw_trials", "main", "trials_needed"]

_USAGE = """\
Compare the learned rule of a finished run on `navigation` with its tuned baselines, trial by trial, on goals that
meta-training never met: mean path efficiency (steps of the shortest path / steps taken, 0 at a timeout) of each trial,
and the first trial from which this mean stays at a threshold, with its 95 % interval over seeds. A trial that a
lifetime does not reach counts as 0. `ratio` is the number of trials of the learned rule over that of the row.

--quick                            few lifetimes and trials: under a minute
"""


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run and measurement.

    Attributes:
        run: directory of a finished run, of one seed or of several.
        trials: trials of a lifetime.
        lifetimes: held-out lifetimes of each seed.
        threshold: mean path efficiency; ⅔ is a path of 1.5 times the shortest one.
        json: file for the rows of the table; none if empty.
        figure: file for a picture of all trials; none if empty.
    """

    run: Annotated[str, Meta(min_length=1)]
    trials: Annotated[int, Meta(ge=1, le=10_000)] = 60
    lifetimes: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    threshold: Annotated[float, Meta(gt=0, le=1)] = 2 / 3
    json: str = ""
    figure: str = ""


@sharded_jit("learner", "lifetimes", "trials", "steps")
def by_trial(
    learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int, trials: int, steps: int
) -> Float[Array, "lifetimes trials"]:
    """Path efficiency of each trial of fresh networks.

    Args:
        learner: on `Navigation`.
        theta: θ.
        pool: tasks.
        key: decides all draws.
        lifetimes: number of networks.
        trials: number of trials; those that are not reached have efficiency 0.
        steps: length of the lifetimes.
    """

    def one_lifetime(number: Integer) -> Float[Array, " trials"]:
        task, lifetime_key, _ = sample_lifetime(learner, pool, key, number)
        context, state = learner.init(theta, lifetime_key, task)

        def step(state: LearnerState, t: Integer) -> tuple[LearnerState, tuple[Array, Array]]:
            after, _ = step_at(learner, theta, context, state, t)
            return after, (after.task.trials, after.task.last)

        _, (ended, last) = loop(step, state, jnp.arange(steps))
        is_end = jnp.diff(ended, prepend=0.0) > 0
        is_trial = is_end[:, None] & (ended[:, None] == jnp.arange(1, trials + 1)[None])
        return jnp.sum(jnp.where(is_trial, last[:, None], 0.0), axis=0)

    return map_lifetimes(one_lifetime, lifetimes)


def trials_needed(run: FinishedRun, options: Options) -> dict[str, tuple[np.ndarray, int | None]]:
    """Mean path efficiency of each trial, and the first trial from which it stays at the threshold, by contender."""
    tasks = run.config.tasks
    if not isinstance(tasks, Navigation):
        raise ConfigError(f"--run '{options.run}': its tasks are no `navigation`")
    compared, _ = contenders(run, run.config)
    measure = partial(
        by_trial, lifetimes=options.lifetimes, trials=options.trials, steps=options.trials * tasks.timeout
    )
    key = stream(run_key(run.config.seed), Purpose.HELD_OUT)
    curves = {
        name: np.mean(np.asarray(measure(learner, theta, run.config.split.test, key)), axis=0)
        for name, (learner, theta) in compared.items()
    }
    numbers = range(1, options.trials + 1)
    return {name: (curve, threshold_point(curve, numbers, options.threshold)) for name, curve in curves.items()}


@picture
def draw_trials(efficiencies: Mapping[str, Float[np.ndarray, "seeds trials"]], threshold: float, title: str) -> Any:
    """Draw the path efficiency of each trial, mean over seeds and 95 % interval, and the threshold."""
    figure, (axes,) = figure_of(1)
    for name, curves in efficiencies.items():
        numbers, mean, style = np.arange(1, curves.shape[1] + 1), curves.mean(axis=0), style_of(name)
        axes.plot(numbers, mean, color=style["color"], linestyle=style["linestyle"], label=name)
        if len(curves) > 1:
            band = confidence_band(curves)
            axes.fill_between(numbers, band["low"], band["high"], color=style["color"], alpha=0.2, linewidth=0)
    draw_threshold([axes], threshold)
    axes.set(xscale="log", xlabel="trial", ylabel="shortest path / steps taken (fraction)", ylim=(0, 1), title=title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(loc="center left", bbox_to_anchor=(1.05, 0.5))
    return figure


def _serve(options: Options, flags: list[str]) -> int:
    seeds = [trials_needed(run, options) for run in load_seeds(options.run)]
    rows = []
    means = {name: float(np.mean([one[name][1] or np.nan for one in seeds])) for name in seeds[0]}
    for name in seeds[0]:
        needed = [one[name][1] for one in seeds]
        never = needed.count(None)
        middle = (None, None, None) if never else interval(np.array(needed, float))
        row = {"contender": name} | dict(zip(("trials", "low", "high"), middle, strict=True))
        row["ratio"] = means[LEARNED] / means[name]  # NaN where one never gets there
        end = np.mean([one[name][0][-1] for one in seeds])
        rows.append(row | {"never": never, "by_seed": needed, "efficiency at the end": round(float(end), 3)})
    print(program.table(rows))
    write_rows(options.json, rows)
    if options.figure:
        efficiencies = {name: np.array([one[name][0] for one in seeds]) for name in seeds[0]}
        title = f"Goals that meta-training never met, {count_text(len(seeds), 'seeds')}"
        draw_trials(Path(options.figure), efficiencies, options.threshold, title)
    return 0


main = program.command("benchmarks.trials", _USAGE, Options, _serve, {"trials": 20, "lifetimes": 64}, (QUICK,))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
