"""Diagnosis of meta-training in trouble, with a remedy in one line."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

__all__ = ["FIRST", "HOPELESS", "RECENT", "is_hopeless", "mean_loss", "trouble"]

Rows: TypeAlias = Sequence[Mapping[str, Any]]

# Meta-steps that a diagnosis averages over, at first and most recently.
FIRST, RECENT = 10, 20
# Meta-steps without a usable lifetime after which training stops; rollbacks have shrunk θ to almost 0 by then.
HOPELESS = 100
# Thresholds: shares of lifetimes, of meta-steps, and of the first meta-loss.
_DIVERGED, _FLAT, _REJECTED, _WORSE = 0.1, 0.5, 0.25, 0.5


def trouble(first: Rows, rows: Rows, remedies: str) -> str:
    """Name the problem of the most recent meta-steps and a remedy in one line; empty for no problem.

    Args:
        first: the first rows of the metrics; empty where their meta-loss is not comparable.
        rows: rows up to the present one.
        remedies: settings that help against divergence.
    """
    recent = rows[-RECENT:]
    when = f"in the last {len(recent)} meta-steps"
    lifetimes, rejected = _mean(recent, "lifetimes"), _mean(recent, "rejected")
    diverged, flat = (_mean(recent, name) / lifetimes for name in ("nonfinite_lifetimes", "zero_gradient_lifetimes"))
    loss, first_loss = mean_loss(recent), mean_loss(first)
    exponents = [row["lyapunov_exponent"]["largest"] for row in rows if row.get("lyapunov_exponent")]
    if exponents and exponents[-1] is not None and np.isfinite(exponents[-1]):
        cause = f" (perturbations of the weights grow up to {np.exp(exponents[-1]):.3g}-fold a step)"
    else:
        cause = ""
    if diverged > _DIVERGED:
        return f"{diverged:.0%} of lifetimes diverged {when}{cause}: try {remedies} or a smaller initial rule"
    if flat > _FLAT:
        saturated = "as where every weight sits at its bound"
        return f"{flat:.0%} of gradients were exactly zero {when}, {saturated}: try a smaller initial rule"
    if rejected > _REJECTED:
        return f"{rejected:.0%} of meta-steps were rejected {when}{cause}: try {remedies}"
    if len(recent) == RECENT and loss > first_loss + _WORSE * abs(first_loss):
        return f"the meta-loss was {loss:.3g} {when}, and {first_loss:.3g} at first{cause}: try {remedies}"
    return ""


def is_hopeless(rows: Rows) -> bool:
    """Check whether no lifetime of the last `HOPELESS` meta-steps was usable: all diverged, or had no gradient."""
    recent = rows[-HOPELESS:]
    usable = [row["lifetimes"] - row["nonfinite_lifetimes"] - row["zero_gradient_lifetimes"] for row in recent]
    return len(recent) == HOPELESS and not any(usable)


def _mean(rows: Rows, name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def mean_loss(rows: Rows) -> float:
    """Mean of the finite meta-losses; NaN, which exceeds nothing, without any."""
    losses = [row["loss"] for row in rows if row["loss"] is not None and np.isfinite(row["loss"])]
    return float(np.mean(losses)) if losses else float("nan")
