"""Races of meta-optimisers: the held-out score against lifetimes and seconds."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from benchmarks.timing import clocked, compiled, take_turns
from metarule.analysis.evaluation import sample_lifetime
from metarule.analysis.statistics import threshold_point
from metarule.estimators.base import lifetimes_per_estimate
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta import Gradient
from metarule.meta.phases import resolved
from metarule.prng import run_key
from metarule.protocols import Estimator
from metarule.runs.experiment import Experiment
from metarule.runs.figures.canvas import blank, picture
from metarule.runs.figures.methods import legend_entries, mark, style_of
from metarule.runs.files import read_json
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT
from metarule.sweeps.report import interquartile
from metarule.types import Integer, Theta

__all__ = ["COSTS", "Racer", "cost_to", "draw_races", "read_race", "relative_cost", "scores_at"]

_Cost: TypeAlias = Literal["lifetimes", "seconds"]
COSTS: tuple[_Cost, ...] = ("lifetimes", "seconds")

# Seconds for each kind of lifetime, and lifetimes that are timed, and of a search those that its candidates share.
_SECONDS, _LIFETIMES, _SHARED = 5.0, 1024, 32


class Racer(NamedTuple):
    """A method on a problem, and the scores of its seeds.

    Attributes:
        method: its name.
        terms: of the rule.
        setting: tuned values.
        seeds: in order.
        lifetimes: until each mark, where a lifetime with its gradient counts as its cost [marks].
        seconds: of a seed in the joint program, until each mark [marks].
        learning_curves: held-out score [seeds, marks].
    """

    method: str
    terms: int
    setting: str
    seeds: tuple[int, ...]
    lifetimes: Float[np.ndarray, " marks"]
    seconds: Float[np.ndarray, " marks"]
    learning_curves: Float[np.ndarray, "seeds marks"]

    @property
    def final(self) -> dict[int, float]:
        """Final score by seed."""
        return dict(zip(self.seeds, self.learning_curves[:, -1].tolist(), strict=True))


def read_race(directory: Path, costs: Mapping[str, float]) -> list[Racer]:
    """Read the finished cases of a sweep over methods; they have names such as "CMA-ES, 16 terms".

    Args:
        directory: of the sweep.
        costs: of a lifetime, by case, in lifetimes without a gradient; 1 where there is none.
    """
    plan = read_json(directory / PLAN)
    racers = []
    for cell in plan["cells"]:
        result = read_json(directory / CELLS / cell["name"] / DONE / RESULT)
        for number, setting in enumerate(plan["settings"] if result else ()):
            points = sorted((one for one in result["points"] if one["setting"] == number), key=lambda one: one["seed"])
            if not points:
                continue
            case = setting["values"]["case"]
            method, _, terms = case.removesuffix(" terms").rpartition(", ")
            racers.append(
                Racer(
                    method=method,
                    terms=int(terms),
                    setting=setting["label"].removeprefix(f"{case}, "),
                    seeds=tuple(point["seed"] for point in points),
                    lifetimes=np.array(result["lifetimes"]) * costs.get(case, 1.0),
                    seconds=np.array(result["marks"]) * result["seconds"].get("meta_step", np.nan),
                    learning_curves=np.array([point["curve"] for point in points], float),
                )
            )
    return racers


def cost_to(racer: Racer, score: float, cost: _Cost = "lifetimes") -> float | None:
    """Lifetimes or seconds until the interquartile mean over seeds stays at a score or above; None if it does not."""
    curve = np.array([interquartile(column).mean for column in racer.learning_curves.T])
    first = threshold_point(curve, range(len(curve)), score)
    return None if first is None else float(getattr(racer, cost)[first])


def scores_at(racer: Racer, budget: float, cost: _Cost) -> dict[int, float]:
    """Score by seed after a number of lifetimes or seconds, linear between marks."""
    at = np.array([np.interp(budget, getattr(racer, cost), curve) for curve in racer.learning_curves])
    return dict(zip(racer.seeds, at.tolist(), strict=True))


@picture
def draw_races(races: Mapping[str, Sequence[Racer]]) -> Any:
    """Draw the held-out score of racers by family, mean and interval over seeds, against lifetimes."""
    sizes = sorted({racer.terms for racers in races.values() for racer in racers})
    methods = list(dict.fromkeys(racer.method for racers in races.values() for racer in racers))
    figure = blank(4.2 * len(sizes), 2.9 * len(races) + 0.6)
    panels = figure.subplots(len(races), len(sizes), squeeze=False, sharex="col", sharey="row")
    for (family, racers), row in zip(races.items(), panels, strict=True):
        for axes, terms in zip(row, sizes, strict=True):
            for racer in (racer for racer in racers if racer.terms == terms):
                style = style_of(racer.method, methods) | {"markevery": max(len(racer.lifetimes) // 6, 1)}
                middle, low, high = zip(*(interquartile(column, share=True) for column in racer.learning_curves.T))
                line = axes.plot(racer.lifetimes, middle, label=racer.method, **style)
                band = axes.fill_between(racer.lifetimes, low, high, color=style["color"], alpha=0.15, linewidth=0)
                mark((*line, band), racer.method)
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")  # labels of short axes overlap
            axes.set_title(f"{family}, {terms} terms")
        row[0].set_ylabel("held-out score (fraction)")
    for axes in panels[-1]:
        axes.set_xlabel("lifetimes (number)")
    lines = {line.get_label(): line for axes in panels.flat for line in axes.get_lines()}
    seeds = max(len(racer.seeds) for racers in races.values() for racer in racers)
    title = {"title": f"Interquartile mean and 95 % interval over {seeds} seeds", "title_fontsize": "small"}
    legend = figure.legend(lines.values(), lines, ncols=len(lines), loc="outside lower center", **title)
    legend_entries(legend, list(lines))
    return figure


def relative_cost(experiment: Experiment) -> float:
    """Measure the time of a lifetime with its θ-gradient, as a multiple of that of a lifetime in a search.

    1,024 lifetimes are timed. In a search these are 32 candidates on the same 32 lifetimes, which are initialised once;
    each gradient is that of a lifetime of its own. The time of an estimate is divided by its number of lifetimes. The
    fastest runs count.
    """
    lifetime, optimizer = experiment.lifetime, experiment.optimizer
    assert isinstance(optimizer, Gradient)
    estimator: Estimator = resolved(optimizer, lifetime)[0].estimator
    pool, theta = experiment.split.train, lifetime.init_theta(run_key(0))

    def drawn(number: Integer) -> tuple[Any, Array]:
        return sample_lifetime(lifetime, pool, run_key(1), number)[:2]

    def searched(theta: Theta) -> Float[Array, " lifetimes"]:
        return jax.vmap(lambda number: lifetime_loss(lifetime, theta, *drawn(number))[0])(jnp.arange(_SHARED))

    def differentiated(number: Integer) -> Any:
        task, key = drawn(number)
        return estimator.estimate(lifetime, theta, task, estimator.init(lifetime, theta, key), key)[0].gradient

    thetas = jax.tree.map(lambda leaf: jnp.stack([leaf] * (_LIFETIMES // _SHARED)), theta)
    calls = []
    for function, given in ((searched, thetas), (differentiated, jnp.arange(_LIFETIMES))):
        call = partial(compiled(jax.vmap(function), given).run, given)
        calls.append((call, clocked(call)[1]))
    search, gradient = (timing.minimum for timing in take_turns(calls, _SECONDS))
    return gradient / search / lifetimes_per_estimate(estimator)
