"""Power laws of the gap between the errors on new and on training tasks.

gap ≈ scale·N^(−exponent) with N training tasks. The gap is closed where this falls to .01. How that number of tasks
grows with the number of coefficients of a rule is another power law, over the rules.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metarule.analysis.statistics import Interval, interval

__all__ = ["CLOSED", "Fit", "closing_exponent", "fit", "power_law"]

# Gap that counts as none.
CLOSED = 0.01


class Fit(NamedTuple):
    """Power law of the gap, gap ≈ scale·N^(−exponent), with 95 % intervals.

    Attributes:
        scale: gap with one training task.
        exponent: of N.
        closed: number of training tasks with which the gap is .01.
    """

    scale: Interval
    exponent: Interval
    closed: Interval


def fit(numbers: Sequence[int], gaps: Float[np.ndarray, "seeds numbers"]) -> Fit:
    """Fit a power law to the mean gap over seeds by least squares, since gaps may be negative.

    Intervals are those of the jackknife: n fits without seed i give n nearly independent values, n·fit − (n − 1)·fitᵢ.

    Args:
        numbers: of training tasks.
        gaps: error on new tasks less that on training tasks.

    Returns:
        The fit; the ends of its intervals are NaN where a fit without one of the seeds does not converge.

    References:
        Tukey 1958 (the jackknife).
    """

    def law(gaps: Float[np.ndarray, "seeds numbers"]) -> list[float]:
        scale, exponent = power_law(numbers, gaps.mean(axis=0))
        return [scale, exponent, _log_closed(scale, exponent)]

    scale, exponent, closed = _jackknife(law, gaps)
    return Fit(scale, exponent, Interval(*np.exp(closed).tolist()))


def closing_exponent(
    numbers: Sequence[int], sizes: Sequence[int], gaps: Float[np.ndarray, "seeds rules numbers"]
) -> Interval | None:
    """Fit the exponent k of N ∝ h^k, where N training tasks close the gap of a rule with h coefficients.

    Args:
        numbers: of training tasks.
        sizes: h of each rule.
        gaps: error on new tasks less that on training tasks.

    Returns:
        The exponent, by least squares of ln N on ln h, and the interval of the jackknife; None for a single rule.
    """
    if len(sizes) < 2:
        return None

    def slope(gaps: Float[np.ndarray, "seeds rules numbers"]) -> list[float]:
        closed = [_log_closed(*power_law(numbers, rule)) for rule in gaps.mean(axis=0)]
        return [float(np.polyfit(np.log(sizes), closed, 1)[0]) if np.all(np.isfinite(closed)) else np.nan]

    return _jackknife(slope, gaps)[0]


def power_law(numbers: Sequence[int], gaps: Float[np.ndarray, " numbers"]) -> tuple[float, float]:
    """Scale and exponent of the power law, by least squares; an exponent of NaN where it does not converge."""
    from scipy.optimize import curve_fit  # takes most of a second to import

    start = (max(float(gaps[0]), 1e-3), 0.5)
    try:
        (scale, exponent), _ = curve_fit(lambda n, a, b: a * n**-b, np.array(numbers, float), gaps, start, maxfev=5000)
    except RuntimeError:  # does not converge
        return float(gaps[0]), np.nan
    return float(scale), float(exponent)


def _log_closed(scale: float, exponent: float) -> float:
    """Logarithm of the number of tasks with which a power law falls to the gap that counts as none."""
    return float(np.log(scale / CLOSED) / exponent) if scale > 0 and exponent > 0 else np.nan


def _jackknife(estimate: Callable[[Any], list[float]], values: Float[np.ndarray, "seeds ..."]) -> tuple[Interval, ...]:
    """Estimates from values of all seeds, with the intervals of the jackknife around them."""
    count, whole = len(values), np.array(estimate(values))
    without = [estimate(np.delete(values, seed, axis=0)) for seed in range(count) if count > 1]
    pseudo = count * whole - (count - 1) * np.array(without).reshape(-1, whole.size)
    return tuple(_around(float(one), column) for one, column in zip(whole, pseudo.T, strict=True))


def _around(middle: float, values: Float[np.ndarray, " n"]) -> Interval:
    """Interval of values, shifted to the reported fit."""
    if not values.size:
        return Interval(middle, np.nan, np.nan)
    mean, low, high = interval(values)
    return Interval(middle, middle + low - mean, middle + high - mean)
