"""Means with an honest margin."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["Interval", "interval"]

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
