"""Races of methods that move θ: the held-out score against what was spent on it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metarule.runs.figures.canvas import COLOURS, blank, picture, save
from metarule.runs.files import read_json
from metarule.sweeps.cells import DONE
from metarule.sweeps.report import CELLS, PLAN, interquartile, paired

__all__ = ["Racer", "draw_races", "lead", "reached", "read_race"]


class Racer(NamedTuple):
    """A method on a problem, and how its seeds went.

    Attributes:
        method: its name.
        terms: of the rule.
        setting: what it was tuned to.
        seeds: the seeds, in order.
        lives: what was lived until each mark, a lifetime with its gradient counted at its cost [marks].
        seconds: what a seed took until then, beside the others [marks].
        learning_curves: held-out score [seeds, marks].
    """

    method: str
    terms: int
    setting: str
    seeds: tuple[int, ...]
    lifetimes: Float[np.ndarray, " marks"]
    seconds: Float[np.ndarray, " marks"]
    learning_curves: Float[np.ndarray, "seeds marks"]


def read_race(directory: Path, costs: Mapping[str, float]) -> list[Racer]:
    """What a sweep over methods came to, whose cases are called such as "CMA-ES, 16 terms".

    Args:
        directory: of the sweep.
        costs: of a lifetime by case, where it is not that of a lifetime alone.

    Returns:
        One a case that is done, its seeds in order.
    """
    plan = read_json(directory / PLAN)
    racers = []
    for cell in plan["cells"]:
        result = read_json(directory / CELLS / cell["name"] / DONE / "result.json")
        for number, setting in enumerate(plan["settings"] if result else ()):
            points = sorted((one for one in result["points"] if one["setting"] == number), key=lambda one: one["seed"])
            if not points:
                continue
            case = setting["values"]["case"]
            method, _, terms = case.removesuffix(" terms").rpartition(", ")
            marks = np.array(result["marks"])
            racers.append(
                Racer(
                    method=method,
                    terms=int(terms),
                    setting=setting["label"].removeprefix(f"{case}, "),
                    seeds=tuple(point["seed"] for point in points),
                    lifetimes=np.array(result["lifetimes"]) * costs.get(case, 1.0),
                    seconds=marks * result["seconds"].get("meta_step", np.nan),
                    learning_curves=np.array([point["curve"] for point in points], float),
                )
            )
    return racers


def lead(racer: Racer, other: Racer) -> tuple[float, float, float]:
    """By how much one ends ahead of another: interquartile mean of the difference by seed, and its 95 % interval."""
    ends = [dict(zip(one.seeds, one.learning_curves[:, -1], strict=True)) for one in (racer, other)]
    apart = paired(*ends)
    assert apart is not None
    return apart


def reached(racer: Racer, score: float) -> float | None:
    """Lifetimes after which the interquartile mean of the seeds is at a score, and stays there; None if it does not."""
    below = np.array([interquartile(column).mean < score for column in racer.learning_curves.T])
    first = int(np.flatnonzero(below).max(initial=-1)) + 1
    return float(racer.lifetimes[first]) if first < len(below) else None


@picture
def draw_races(file: Path, races: Mapping[str, Sequence[Racer]]) -> None:
    """Held-out score against lives and against seconds: interquartile mean over seeds and 95 % interval.

    Args:
        file: where the picture goes.
        races: by family, who races.
    """
    sizes = sorted({racer.terms for racers in races.values() for racer in racers})
    methods = list(dict.fromkeys(racer.method for racers in races.values() for racer in racers))
    rows = [(family, spent) for family in races for spent in ("lives", "seconds")]
    figure = blank(4.2 * len(sizes), 2.6 * len(rows) + 0.6)
    panels = figure.subplots(len(rows), len(sizes), squeeze=False, sharey="row")
    for (family, spent), row in zip(rows, panels, strict=True):
        for axes, terms in zip(row, sizes, strict=True):
            for racer in races[family]:
                if racer.terms == terms:
                    _draw(axes, racer, getattr(racer, spent), COLOURS[methods.index(racer.method) % len(COLOURS)])
            axes.set_xscale("log")
            axes.set_xlabel("lives" if spent == "lives" else "seconds a seed")
            axes.set_title(f"{family}, {terms} terms", fontsize="medium")
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("held-out score")
    lines = {line.get_label(): line for axes in panels.flat for line in axes.get_lines()}
    figure.legend(lines.values(), lines, frameon=False, ncols=len(lines), loc="outside lower center")
    save(figure, file)


def _draw(axes: Any, racer: Racer, spent: Float[np.ndarray, " marks"], colour: str) -> None:
    low, middle, high = zip(*_band(racer))
    axes.plot(spent, middle, color=colour, label=racer.method)
    axes.fill_between(spent, low, high, color=colour, alpha=0.15, linewidth=0)


def _band(racer: Racer) -> Iterator[tuple[float, float, float]]:
    for column in racer.learning_curves.T:
        middle = interquartile(column, share=True)
        yield middle.low, middle.mean, middle.high
