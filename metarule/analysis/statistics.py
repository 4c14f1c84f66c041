"""Means and their 95 % intervals, over units that are independent: tasks, or seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["NO_SPAN", "Interval", "StepsToThreshold", "band", "interval", "span", "steps_to_threshold", "with_steps"]

_LEVEL = 0.95
# Values whose differences are no larger than this share of them are alike but for rounding.
_ROUNDING = 1e-9
# Stands where there is no interval.
NO_SPAN = "–"


class Interval(NamedTuple):
    """A mean and its 95 % interval.

    Attributes:
        mean: of the values; of their middle part where it is trimmed.
        low: lower end; NaN where values cannot tell, because there is one, or all are alike.
        high: upper end; NaN likewise.
    """

    mean: float
    low: float
    high: float


def interval(values: Float[np.ndarray, " units"], trim: float = 0.0, share: bool = False) -> Interval:
    """Mean of independent values with its t interval.

    mean ± t(h − 1)·e,  e² = (n − 1)·s² / (h·(h − 1)),  h = n − 2·⌊trim·n⌋

    s² is the variance of the values after the outermost of the h middle ones have taken the place of those that are
    trimmed. With trim = 0 this is Student's interval; with trim = ¼ the mean is the interquartile mean. Scores near 1
    are skewed, and cannot pass it; the interval of a share is therefore one of its logit, whose error is
    e/(mean·(1 − mean)) by the delta method.

    Where few values are nearly all 0 or 1, as of tasks that are solved or not, there often is no interval, and one that
    there is may hold the mean less often than it says.

    Values have to be independent: lifetimes on one task are not, and neither are tasks under one learned θ where the
    question is what another seed would learn. Average them within the unit first.

    Args:
        values: one a unit, at least one.
        trim: share of the values that is cut from either end.
        share: whether values lie between 0 and 1, as scores do.

    Returns:
        Mean and 95 % interval; its ends are NaN where there is one value, or no spread.

    References:
        Student 1908; Tukey & McLaughlin 1963 and Yuen 1974 (trimmed means).
    """
    mean, low, high = _ends(np.asarray(values, float)[:, None], trim, share)
    return Interval(float(mean[0]), float(low[0]), float(high[0]))


def band(values: Float[np.ndarray, "units points"], trim: float = 0.0) -> dict[str, tuple[float, ...]]:
    """Mean and interval of shares at each point of learning_curves: `mean`, `low` and `high` [points]."""
    ends = _ends(np.asarray(values, float), trim, share=True)
    return {name: tuple(found.tolist()) for name, found in zip(Interval._fields, ends, strict=True)}


def span(low: float | None, high: float | None, form: str = ".4f", between: str = " to ") -> str:
    """An interval for the screen; a dash where there is none, as NaN says, or null in JSON."""
    if low is None or high is None or np.isnan(low):
        return NO_SPAN
    return f"{low:{form}}{between}{high:{form}}"


class StepsToThreshold(NamedTuple):
    """Step from which on the mean of curves stays at a score, and the 95 % interval of that; None for never.

    Attributes:
        at: the first point from which on the mean is at least the score.
        low: lower end.
        high: upper end.
    """

    at: int | None
    low: int | None
    high: int | None


def steps_to_threshold(
    values: Float[np.ndarray, "units points"], where: Sequence[int], score: float
) -> StepsToThreshold:
    """Find the first point from which on the mean of independent curves is at least a score, to the end.

    The interval inverts the band of the mean: from where its upper end stays at the score to where its lower end does.
    A mean that is there at last, but at a point before it was not, would have to lie outside its own interval.

    Args:
        values: at least one curve.
        where: what the points stand for, such as steps [points].
        score: to be reached.

    Returns:
        The point, with its interval over units; with one curve, or where all are alike, the interval is the point.
    """
    mean, low, high = _ends(np.asarray(values, float), 0.0, share=True)
    low, high = (np.where(np.isnan(end), mean, end) for end in (low, high))
    return StepsToThreshold(*(with_steps(curve, where, score) for curve in (mean, high, low)))


def with_steps(curve: Float[np.ndarray, " points"], where: Sequence[int], score: float) -> int | None:
    """Find the first point from which on a curve is at least a score, to its end; None for never.

    Args:
        curve: one value a point; one that is not a number is below any score.
        where: what the points stand for [points].
        score: to be reached.

    Returns:
        What the point stands for.
    """
    below = np.flatnonzero(~(curve >= score))
    first = below[-1] + 1 if below.size else 0
    return where[first] if first < len(where) else None


def _ends(
    values: Float[np.ndarray, "units points"], trim: float, share: bool
) -> tuple[Float[np.ndarray, " points"], ...]:
    """Mean, low and high of each column."""
    from scipy.special import expit, logit, stdtrit  # not at every start: only where a result is reported

    theta_scale, cut = len(values), int(trim * len(values))
    kept = theta_scale - 2 * cut
    ordered = np.sort(values, axis=0)
    mean = ordered[cut : theta_scale - cut].mean(axis=0)
    none = np.full_like(mean, np.nan)
    if kept < 2:
        return mean, none, none
    winsorised = np.clip(values, ordered[cut], ordered[theta_scale - cut - 1])
    error = np.sqrt((theta_scale - 1) * winsorised.var(axis=0, ddof=1) / (kept * (kept - 1)))
    alike = np.ptp(winsorised, axis=0) <= _ROUNDING * np.abs(winsorised).max(axis=0)
    margin = np.where(alike, np.nan, stdtrit(kept - 1, (1 + _LEVEL) / 2) * error)
    if not share:
        return mean, mean - margin, mean + margin
    with np.errstate(divide="ignore"):  # where all are 0 or 1, there is no margin
        centre, threshold = logit(mean), margin / (mean * (1 - mean))
    return mean, expit(centre - threshold), expit(centre + threshold)
