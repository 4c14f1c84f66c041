"""What a person can do about meta-training that is in trouble, in one line."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["FIRST", "HOPELESS", "RECENT", "is_hopeless", "trouble"]

Rows: TypeAlias = Sequence[Mapping[str, Any]]

# Meta-steps that a diagnosis looks at, at first and up to now; and so many without any life of use after which there is
# no hope: a guard has long led θ back to 0 by then.
FIRST, RECENT, HOPELESS = 10, 20, 100
# Shares of lifetimes, of meta-steps, and of the first meta-loss above which a person should know.
_DIVERGED, _FLAT, _REJECTED, _WORSE = 0.1, 0.5, 0.25, 0.5


def trouble(first: Rows, rows: Rows, remedies: str) -> str:
    """What is wrong with the last meta-steps, and what would help.

    Args:
        first: rows of the metrics with which the run began; none where their meta-loss cannot be compared.
        rows: up to the present one.
        remedies: against chaos, such as other settings.

    Returns:
        One line; empty where nothing is wrong.
    """
    recent = rows[-RECENT:]
    when = f"in the last {len(recent)} meta-steps"
    seen = [row["lyapunov_exponent"]["largest"] for row in rows if row.get("lyapunov_exponent")]
    known = seen and seen[-1] is not None and np.isfinite(seen[-1])
    chaos = f" (a disturbance of the weights grows up to {np.exp(seen[-1]):.3g}-fold a step)" if known else ""
    lifetimes = _mean(recent, "lifetimes")
    diverged, flat = (_mean(recent, name) / lifetimes for name in ("nonfinite_lifetimes", "zero_gradient_lifetimes"))
    rejected, now, before = _mean(recent, "rejected"), _loss(recent), _loss(first)
    if diverged > _DIVERGED:
        return f"{diverged:.0%} of lifetimes diverged {when}{chaos}: try {remedies} or a smaller initial rule"
    if flat > _FLAT:
        frozen = f"{flat:.0%} of gradients were exactly zero {when}, as where every weight sits at its bound"
        return f"{frozen} whatever theta: try a smaller initial rule"
    if rejected > _REJECTED:
        return f"{rejected:.0%} of steps were taken back {when}{chaos}: try {remedies}"
    if len(recent) == RECENT and now > before + _WORSE * abs(before):
        return f"the meta-loss was {now:.3g} {when}, and {before:.3g} at first{chaos}: try {remedies}"
    return ""


def _mean(rows: Rows, name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _loss(rows: Rows) -> float:
    """Mean meta-loss; NaN, which is above nothing, where none was finite."""
    losses = [row["loss"] for row in rows if row["loss"] is not None and np.isfinite(row["loss"])]
    return float(np.mean(losses)) if losses else float("nan")


def is_hopeless(rows: Rows) -> bool:
    """Whether no lifetime of many meta-steps was of use, so that θ has nothing to learn from."""
    recent = rows[-HOPELESS:]
    of_use = [row["lifetimes"] - row["nonfinite_lifetimes"] - row["zero_gradient_lifetimes"] for row in recent]
    return len(recent) == HOPELESS and not any(of_use)
