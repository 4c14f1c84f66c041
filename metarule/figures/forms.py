"""Picture of a search for forms."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarule.figures.canvas import COLOURS, figure_of, save

__all__ = ["draw_front"]

_POWERS = str.maketrans({"^": "", **dict(zip("23456789", "²³⁴⁵⁶⁷⁸⁹"))})

# Longer equations would not fit beside their points.
_WRITTEN = 2


def draw_front(file: Path, rows: Sequence[Mapping[str, Any]], score: str, lives: int) -> None:
    """Held-out score against the number of terms, with the shortest rules written beside their points.

    Args:
        file: where the picture goes.
        rows: `terms`, `mean`, `low`, `high`, `on_front` and `names` of each form.
        score: what is drawn.
        lives: over how many lives.
    """
    figure, (axes,) = figure_of(1, width=8.0)
    best = [row for row in rows if row["on_front"]]
    axes.step([row["terms"] for row in best], [row["mean"] for row in best], where="post", color="0.7", zorder=0)
    for row in rows:
        colour = COLOURS[0] if row["on_front"] else "0.6"
        axes.vlines(row["terms"], row["low"], row["high"], color=colour)
        axes.scatter(row["terms"], row["mean"], color=colour, s=24)
        if row["on_front"] and row["terms"] <= _WRITTEN:
            text = ", ".join(name.replace("*", "·").translate(_POWERS) for name in row["names"])
            axes.annotate(
                text, (row["terms"], row["mean"]), xytext=(8, -10), textcoords="offset points", fontsize="small"
            )
    axes.set_xticks(sorted({row["terms"] for row in rows}))
    axes.set(
        xlabel="terms of the rule",
        ylabel=score,
        title=f"Held-out tasks: mean and 95 % interval over {lives} lives, and the front",
    )
    save(figure, file)
