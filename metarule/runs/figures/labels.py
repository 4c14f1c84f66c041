"""Texts of figures: labels of axes with units, and the line below with the run and the numbers behind it."""

from pathlib import Path
from textwrap import fill
from typing import Any

__all__ = ["draw_caption", "run_name", "score_label"]

_SCORES = {
    "accuracy": "answers that are right (fraction)",
    "best_arm": "choices of the best arm (fraction)",
    "closeness": "closeness to the targets, 1/(1 + deviation)",
    "cross_entropy": "cross-entropy (nats)",
    "deviation": "deviation from the targets (tolerances)",
    "efficiency": "path efficiency (fraction of 1)",
    "explained": "variance or deviance explained (fraction)",
    "regret": "regret (reward of a choice)",
    "reward": "reward (mean of a choice)",
    "solved": "tasks solved (fraction)",
}
# Parts of the path of a run that name it, as in `boolean/2026-01-31-s0`.
_PARTS = 2


def score_label(metric: str, width: int = 60) -> str:
    """Label of an axis with a metric, and its unit, in lines of at most `width` characters."""
    return fill(_SCORES.get(metric, f"{metric.replace('_', ' ')} (mean score)"), width)


def run_name(directory: Path) -> str:
    """Name of a run in captions: the end of its path."""
    return "/".join(directory.absolute().parts[-_PARTS:])


def draw_caption(figure: Any, caption: str) -> None:
    """Write a line below the axes of a figure."""
    if caption:
        figure.supxlabel(caption, x=0.01, ha="left", fontsize="small", color="0.45")
