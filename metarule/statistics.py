"""Means with an honest margin."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["Interval", "Reached", "band", "interval", "reached"]

_RESAMPLES = 2000


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
        batch=100,
    )
    return Interval(mean, float(drawn.confidence_interval.low), float(drawn.confidence_interval.high))


def band(values: Float[np.ndarray, "n points"]) -> dict[str, tuple[float, ...]]:
    """Mean and interval at each point of curves: `mean`, `low` and `high` [points]."""
    return dict(zip(Interval._fields, zip(*(interval(column) for column in values.T))))


class Reached(NamedTuple):
    """When curves reach a score in the mean, and the 95 % bootstrap interval of that; None for never.

    Attributes:
        at: the first point at which the mean is at least the score.
        low: lower end.
        high: upper end.
    """

    at: int | None
    low: int | None
    high: int | None


def reached(values: Float[np.ndarray, "n points"], where: Sequence[int], score: float, seed: int = 0) -> Reached:
    """The first point at which the mean of independent curves is at least a score.

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
    drawn = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), _RESAMPLES)
    means = np.vstack([values.mean(axis=0, keepdims=True), drawn @ values / len(values)])
    first = np.where(means >= score, np.arange(len(where)), len(where)).min(axis=1)
    ends = np.quantile(first[1:], [0.025, 0.975], method="nearest")
    return Reached(*(where[point] if point < len(where) else None for point in (first[0], *ends.astype(int))))
