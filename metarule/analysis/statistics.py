"""Means and their 95 % intervals, over independent units: tasks or seeds."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = [
    "NO_INTERVAL",
    "Interval",
    "StepsToThreshold",
    "confidence_band",
    "interval",
    "interval_text",
    "jackknife",
    "steps_to_threshold",
    "threshold_point",
]

_LEVEL = 0.95
# Blocks of samples that a jackknife leaves out in turn.
_BLOCKS = 10
# Values that differ by at most this share of their size are equal but for rounding.
_ROUNDING = 1e-9
# Text in place of an interval that does not exist.
NO_INTERVAL = "–"


class Interval(NamedTuple):
    """A mean and its 95 % interval.

    Attributes:
        mean: mean of the values, or of their middle part if trimmed.
        low: lower end; NaN if there is one value or all are equal.
        high: upper end; NaN likewise.
    """

    mean: float
    low: float
    high: float


def interval(values: Float[np.ndarray, " units"], trim: float = 0.0, share: bool = False) -> Interval:
    """Mean of independent values with its t interval.

    mean ± t(h − 1)·e,  e² = (n − 1)·s² / (h·(h − 1)),  h = n − 2·⌊trim·n⌋

    s² is the winsorised variance: trimmed values are replaced by the outermost of the h middle ones. With trim = 0 this
    is Student's interval; with trim = ¼ the mean is the interquartile mean. Scores near 1 are skewed and bounded, so
    the interval of a share is computed for its logit, whose error is e/(mean·(1 − mean)) by the delta method.

    A few values that are nearly all 0 or 1, such as solved tasks, often have no interval, and an existing one may
    contain the mean less often than stated. Values have to be independent: average lifetimes on one task first, and
    tasks under one learned θ if the question is what another seed would learn.

    Args:
        values: one for each unit, at least one.
        trim: share of the values that is cut from either end.
        share: whether values lie between 0 and 1, as scores do.

    References:
        Student 1908; Tukey & McLaughlin 1963 and Yuen 1974 (trimmed means).
    """
    mean, low, high = _mean_low_high(np.asarray(values, float)[:, None], trim, share)
    return Interval(float(mean[0]), float(low[0]), float(high[0]))


def jackknife(
    columns: Float[np.ndarray, "columns samples"],
    statistic: Callable[[Float[np.ndarray, "columns some"]], Float[np.ndarray, " values"]],
) -> list[Interval]:
    """Estimates from samples with their intervals, by leaving out each of ten blocks of successive samples.

    estimate ± t(9)·√(9/10 · Σ_b (estimate without block b − their mean)²)

    Blocks have to be independent, such as samples in the order of their lifetimes.

    Args:
        columns: the samples.
        statistic: gives the estimates from some samples.

    References:
        Tukey 1958; Künsch 1989 (blocks).
    """
    from scipy.special import stdtrit

    blocks = np.array_split(np.arange(columns.shape[1]), _BLOCKS)
    if not blocks[-1].size:
        return [Interval(float(one), float("nan"), float("nan")) for one in statistic(columns)]
    without = np.array([statistic(np.delete(columns, block, axis=1)) for block in blocks])
    margins = stdtrit(_BLOCKS - 1, (1 + _LEVEL) / 2) * np.sqrt((_BLOCKS - 1) * without.var(axis=0))
    pairs = zip(statistic(columns).tolist(), margins.tolist(), strict=True)
    return [Interval(one, one - margin, one + margin) for one, margin in pairs]


def confidence_band(values: Float[np.ndarray, "units points"]) -> dict[str, tuple[float, ...]]:
    """Mean and interval of shares at each point of curves: `mean`, `low` and `high` [points]."""
    columns = _mean_low_high(np.asarray(values, float), 0.0, share=True)
    return {name: tuple(column.tolist()) for name, column in zip(Interval._fields, columns, strict=True)}


def interval_text(low: float | None, high: float | None, form: str = ".4f", between: str = " to ") -> str:
    """Format an interval; a dash if it does not exist (NaN, or null in JSON)."""
    if low is None or high is None or np.isnan(low):
        return NO_INTERVAL
    return f"{low:{form}}{between}{high:{form}}"


class StepsToThreshold(NamedTuple):
    """First step from which the mean of curves stays at a threshold, and its 95 % interval; None for never."""

    at: int | None
    low: int | None
    high: int | None


def steps_to_threshold(
    values: Float[np.ndarray, "units points"], points: Sequence[int], threshold: float
) -> StepsToThreshold:
    """Find the first step from which the mean of independent curves stays at a threshold.

    The interval inverts the band of the mean: it extends from the step where the upper end stays at the threshold to
    that where the lower end does. With one curve, or equal ones, it is the step itself.

    Args:
        values: at least one curve.
        points: step of each point [points].
        threshold: of the mean.
    """
    mean, low, high = _mean_low_high(np.asarray(values, float), 0.0, share=True)
    low, high = (np.where(np.isnan(end), mean, end) for end in (low, high))
    return StepsToThreshold(*(threshold_point(curve, points, threshold) for curve in (mean, high, low)))


def threshold_point(curve: Float[np.ndarray, " points"], points: Sequence[int], threshold: float) -> int | None:
    """First of the steps `points` from which a curve stays at a threshold, NaN being below it; None for never."""
    below = np.flatnonzero(~(curve >= threshold))
    first = below[-1] + 1 if below.size else 0
    return points[first] if first < len(points) else None


def _mean_low_high(
    values: Float[np.ndarray, "units points"], trim: float, share: bool
) -> tuple[Float[np.ndarray, " points"], ...]:
    """Mean, lower end and upper end of each column."""
    from scipy.special import expit, logit, stdtrit  # imported late: slow, and only reports need it

    units, cut = len(values), int(trim * len(values))
    middle = units - 2 * cut
    ordered = np.sort(values, axis=0)
    mean = ordered[cut : units - cut].mean(axis=0)
    missing = np.full_like(mean, np.nan)
    if middle < 2:
        return mean, missing, missing
    winsorised = np.clip(values, ordered[cut], ordered[units - cut - 1])
    error = np.sqrt((units - 1) * winsorised.var(axis=0, ddof=1) / (middle * (middle - 1)))
    equal = np.ptp(winsorised, axis=0) <= _ROUNDING * np.abs(winsorised).max(axis=0)
    margin = np.where(equal, np.nan, stdtrit(middle - 1, (1 + _LEVEL) / 2) * error)
    if not share:
        return mean, mean - margin, mean + margin
    with np.errstate(divide="ignore"):  # values that are all 0 or 1 have no margin
        centre, logit_margin = logit(mean), margin / (mean * (1 - mean))
    return mean, expit(centre - logit_margin), expit(centre + logit_margin)
