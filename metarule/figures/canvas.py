"""What every picture shares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["COLOURS", "blank", "figure_of", "save"]

# Okabe & Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def blank(width: float, height: float) -> Any:
    """A figure without axes; sizes in inches."""
    from matplotlib.figure import Figure  # seconds to import: only where a picture is drawn

    return Figure(figsize=(width, height), layout="constrained")


def figure_of(panels: int, width: float = 7.0, height: float = 4.0) -> tuple[Any, Sequence[Any]]:
    """A figure and its axes, side by side.

    Args:
        panels: how many.
        width: of one, in inches.
        height: in inches.

    Returns:
        (figure, axes).
    """
    figure = blank(width * panels, height)
    axes = figure.subplots(1, panels, squeeze=False)[0].tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, file: Path) -> None:
    """Write a figure, its folder included."""
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150)
