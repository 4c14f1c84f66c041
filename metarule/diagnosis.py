"""What a person can do about meta-training that is in trouble, in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["FIRST", "HOPELESS", "RECENT", "is_hopeless", "trouble"]

# Meta-steps that a diagnosis looks at, at first and up to now; and so many without any life of use after which there is
# no hope: a guard has long led θ back to 0 by then.
FIRST, RECENT, HOPELESS = 10, 20, 100
# Shares of lives, of meta-steps, and of the first meta-loss above which a person should know.
_DIVERGED, _FLAT, _REJECTED, _WORSE = 0.1, 0.5, 0.25, 0.5


def trouble(
    first: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], lives: int, weight_bound: float
) -> str:
    """What is wrong with the last meta-steps, and what would help.

    Args:
        first: rows of the metrics with which the run began.
        rows: up to the present one.
        lives: of a meta-step.
        weight_bound: of the run.

    Returns:
        One line; empty where nothing is wrong.
    """
    recent = rows[-RECENT:]
    when = f"in the last {len(recent)} meta-steps"
    diverged = float(np.mean([row["nonfinite_tasks"] for row in recent])) / lives
    flat = float(np.mean([row["zero_gradient_tasks"] for row in recent])) / lives
    rejected = float(np.mean([row["rejected"] for row in recent]))
    seen = [row["growth"]["largest"] for row in rows if row.get("growth")]
    known = seen and seen[-1] is not None and np.isfinite(seen[-1])
    chaos = f" (a disturbance of the weights grows up to {seen[-1]:.3g}-fold a presentation)" if known else ""
    bound = f"--inner_loop.weight_bound below {weight_bound:g}"
    if diverged > _DIVERGED:
        return (
            f"{diverged:.0%} of lives diverged {when}{chaos}: try {bound}, a smaller initial rule or learning rate, or "
            "shorter lives at first: --optimizer.curriculum '[0.1, 1.0]'"
        )
    if flat > _FLAT:
        return (
            f"{flat:.0%} of gradients were exactly zero {when}, as where weights sit at ±{weight_bound:g} whatever θ: "
            "try a smaller initial rule"
        )
    if rejected > _REJECTED:
        return f"{rejected:.0%} of steps were taken back {when}{chaos}: try {bound}, or a smaller learning rate"
    before, now = _loss(first), _loss(recent)
    if len(recent) == RECENT and now > before + _WORSE * abs(before):
        risen = f"the meta-loss was {now:.3g} {when}, and {before:.3g} at first"
        return f"{risen}{chaos}: try {bound}, or a smaller learning rate"
    return ""


def _loss(rows: Sequence[Mapping[str, Any]]) -> float:
    """Mean meta-loss; NaN, which is above nothing, where none was finite."""
    losses = [row["loss"] for row in rows if row["loss"] is not None and np.isfinite(row["loss"])]
    return float(np.mean(losses)) if losses else float("nan")


def is_hopeless(rows: Sequence[Mapping[str, Any]], lives: int) -> bool:
    """Whether no life of many meta-steps was of use, so that θ has nothing to learn from."""
    recent = rows[-HOPELESS:]
    useless = [row["nonfinite_tasks"] + row["zero_gradient_tasks"] for row in recent]
    return len(recent) == HOPELESS and all(count == lives for count in useless)
