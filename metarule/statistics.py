"""Means with an honest margin."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Interval", "Reached", "band", "interval", "lasting", "reached"]

_RESAMPLES = 2000
# Resamples that are held at once.
_BATCH = 100


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval.

    Attributes:
        mean: of the values.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def interval(values: Float[np.ndarray, " n"], seed: int = 0) -> Interval:
    """Mean of independent values with its percentile bootstrap interval.

    Args:
        values: at least one; with one the interval is a point.
        seed: decides the resampling.

    Returns:
        Mean and 95 % interval.

    References:
        Efron 1979.
    """
    from scipy.stats import bootstrap  # a second to import: only where a result is reported

    mean = float(np.mean(values))
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    drawn = bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
        batch=_BATCH,
    )
    return Interval(mean, float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))


def band(values: Float[np.ndarray, "n points"]) -> dict[str, tuple[float, ...]]:
    """Mean and interval at each point of curves: `mean`, `low` and `high` [points]."""
    return dict(zip(Interval._fields, zip(*(interval(column) for column in values.T))))


class Reached(NamedTuple):
    """When curves reach a score in the mean, to stay there, and the 95 % bootstrap interval of that; None for never.

    Attributes:
        at: the first point from which the mean is at least the score.
        low: lower end.
        high: upper end.
    """

    at: int | None
    low: int | None
    high: int | None


def reached(values: Float[np.ndarray, "n points"], where: Sequence[int], score: float, seed: int = 0) -> Reached:
    """The first point from which the mean of independent curves is at least a score, to the end.

    Args:
        values: at least one curve.
        where: what the points stand for, such as presentations [points].
        score: to be reached.
        seed: decides the resampling.

    Returns:
        The point, with its percentile bootstrap interval over curves.

    References:
        Efron 1979.
    """
    rng, count = np.random.default_rng(seed), len(values)
    batches = [rng.multinomial(count, np.full(count, 1 / count), _BATCH) @ values for _ in range(_RESAMPLES // _BATCH)]
    means = np.vstack([values.mean(axis=0, keepdims=True), np.concatenate(batches) / count])
    first = _lasting(means, score)
    ends = np.quantile(first[1:], [0.025, 0.975], method="nearest")
    return Reached(*(where[point] if point < len(where) else None for point in (first[0], *ends.astype(int))))


def lasting(curve: Float[np.ndarray, " points"], where: Sequence[int], score: float) -> int | None:
    """The first point from which a curve is at least a score, to its end; None for never."""
    (first,) = _lasting(curve[None], score)
    return where[first] if first < len(where) else None


def _lasting(curves: Float[np.ndarray, "n points"], score: float) -> Int[np.ndarray, " n"]:
    """Number of the point after the last that is below a score."""
    points = np.arange(1, curves.shape[1] + 1)
    return np.where(curves < score, points, 0).max(axis=1)
