import numpy as np
import pytest

from benchmarks.studies.laws import closing_exponent, fit

NUMBERS = [1, 2, 3, 5, 9, 20, 50, 100]


def test_the_intervals_of_a_fit_hold_the_power_law():
    rng = np.random.default_rng(0)
    gaps = 0.3 * np.array(NUMBERS, float) ** -0.5 + rng.normal(0, 0.02, (10, len(NUMBERS)))
    fitted = fit(NUMBERS, gaps)
    assert fitted.exponent.low < 0.5 < fitted.exponent.high
    assert fitted.scale.low < 0.3 < fitted.scale.high
    assert fitted.exponent.high - fitted.exponent.low < 0.3
    assert fitted.closed.low < 900 < fitted.closed.high
    assert fit(NUMBERS, gaps[:1]).exponent.mean == pytest.approx(0.5, abs=0.2)
    assert np.isnan(fit(NUMBERS, gaps[:1]).exponent.low)


def test_the_growth_of_the_number_of_tasks_is_found():
    sizes, rng = [7, 16, 27, 81], np.random.default_rng(1)
    gaps = np.array([0.01 * (size / np.array(NUMBERS, float)) ** 1.5 for size in sizes])  # closed at N = h
    found = closing_exponent(NUMBERS, sizes, gaps + rng.normal(0, 0.002, (10, *gaps.shape)))
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.3
    assert closing_exponent(NUMBERS, sizes[:1], gaps[None, :1]) is None
    assert np.isnan(closing_exponent(NUMBERS, sizes[:2], gaps[None, :2, ::-1]).mean)  # gaps that grow
