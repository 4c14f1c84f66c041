"""Picture of a search for forms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarule.runs.figures.canvas import COLOURS, figure_of, picture, save

__all__ = ["draw_front"]

_POWERS = str.maketrans({"^": "", **dict(zip("23456789", "²³⁴⁵⁶⁷⁸⁹"))})

# Longer equations would not fit beside their points.
_WRITTEN = 2


@picture
def draw_front(file: Path, rows: Sequence[Mapping[str, Any]], score: str, title: str) -> None:
    """Held-out score against the number of terms, with the shortest rules written beside their points.

    Args:
        file: where the picture goes.
        rows: `terms`, `mean`, `low`, `high` and `names` of each form.
        score: what is drawn.
        title: of the picture.
    """
    figure, (axes,) = figure_of(1, width=8.0)
    sizes, means = ([row[name] for row in rows] for name in ("terms", "mean"))
    axes.plot(sizes, means, color="0.8", zorder=0)
    low, high = (np.array([row[end] for row in rows], float) for end in ("low", "high"))
    axes.vlines(sizes, low, high, color=COLOURS[0])
    axes.scatter(sizes, means, color=COLOURS[0], s=24)
    for row in (row for row in rows if row["terms"] <= _WRITTEN):
        text = ", ".join(name.replace("*", "·").translate(_POWERS) for name in row["names"])
        axes.annotate(text, (row["terms"], row["mean"]), xytext=(8, -12), textcoords="offset points", fontsize="small")
    axes.set_xticks(sorted({row["terms"] for row in rows}))
    axes.set(
        xlabel="terms of the rule",
        ylabel=score,
        title=title,
    )
    save(figure, file)
