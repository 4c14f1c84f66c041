import numpy as np
import pytest

from benchmarks.studies.tasks import fit

NUMBERS = [1, 2, 3, 5, 9, 20, 50, 100]


def test_a_power_law_is_found_with_an_interval_that_holds_it():
    rng = np.random.default_rng(0)
    gaps = 0.3 * np.array(NUMBERS, float) ** -0.5 + rng.normal(0, 0.02, (10, len(NUMBERS)))
    found = fit(NUMBERS, gaps)
    assert found.exponent.low < 0.5 < found.exponent.high
    assert found.scale.low < 0.3 < found.scale.high
    assert found.exponent.high - found.exponent.low < 0.3


def test_without_noise_the_interval_is_a_point():
    gaps = np.tile(0.2 / np.array(NUMBERS, float), (4, 1))
    found = fit(NUMBERS, gaps)
    assert found.exponent == pytest.approx((1.0, 1.0, 1.0), rel=1e-4)
