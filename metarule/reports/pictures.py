"""Figure that only reports have: coefficients with their spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarule.analysis.statistics import interval
from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import COLOURS, figure_of, picture
from metarule.runs.figures.methods import mark

__all__ = ["draw_spread"]

# Coefficients that are drawn, at most.
_LARGEST = 30
# Characters of a name beside the axes, at most.
_BESIDE = 40
_MEAN = "mean, 95 % interval"


@picture
def draw_spread(values: Mapping[str, Sequence[float]]) -> Any:
    """Draw the largest coefficients: a dot a seed, and with several seeds their mean and its 95 % interval.

    Args:
        values: of each seed, by name of the coefficient.
    """
    names = sorted(values, key=lambda name: -abs(float(np.mean(values[name]))))[:_LARGEST]
    if not names:
        return None
    figure, (axes,) = figure_of(1, width=7.0, height=1.3 + 0.26 * len(names))
    count = max(len(values[name]) for name in names)
    for row, name in enumerate(names):
        seeds = np.array(values[name], float)
        size, colour, label = (26, COLOURS[0], "coefficient") if count == 1 else (12, "0.5", "each seed")
        named = None if row else label
        mark([axes.scatter(seeds, np.full(len(seeds), row), s=size, color=colour, label=named)], label)
        if count > 1:
            mean, low, high = interval(seeds)
            whole, named = {"color": COLOURS[0], "zorder": 3}, None if row else _MEAN
            middle = axes.plot([mean], [row], "D", markersize=4, label=named, **whole)
            mark((*middle, axes.hlines(row, low, high, linewidth=2, **whole)), _MEAN)
    axes.axvline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(names)), [_short(typeset(name)) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="coefficient")
    if count > 1:
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _BESIDE else f"{name[: _BESIDE - 2]} …"
