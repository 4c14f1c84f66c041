"""Figure of a structure search."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarule.runs.figures.canvas import COLOURS, figure_of, picture, save

__all__ = ["draw_front"]

_POWERS = str.maketrans({"^": "", **dict(zip("23456789", "²³⁴⁵⁶⁷⁸⁹"))})

# Largest number of terms that fits beside a point.
_LABELLED = 2


@picture
def draw_front(file: Path, rows: Sequence[Mapping[str, Any]], score: str, title: str) -> None:
    """Draw the held-out score against the number of terms; the shortest rules are labelled.

    Args:
        file: of the figure.
        rows: `terms`, `mean`, `low`, `high` and `names` of each structure.
        score: name of the score.
        title: of the figure.
    """
    figure, (axes,) = figure_of(1, width=8.0)
    sizes, means = ([row[name] for row in rows] for name in ("terms", "mean"))
    axes.plot(sizes, means, color="0.8", zorder=0)
    low, high = (np.array([row[end] for row in rows], float) for end in ("low", "high"))
    axes.vlines(sizes, low, high, color=COLOURS[0])
    axes.scatter(sizes, means, color=COLOURS[0], s=24)
    for row in (row for row in rows if row["terms"] <= _LABELLED):
        text = ", ".join(name.replace("*", "·").translate(_POWERS) for name in row["names"])
        axes.annotate(text, (row["terms"], row["mean"]), xytext=(8, -12), textcoords="offset points", fontsize="small")
    axes.set_xticks(sorted({row["terms"] for row in rows}))
    axes.set(xlabel="terms of the rule", ylabel=score, title=title)
    save(figure, file)
