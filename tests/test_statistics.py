import numpy as np
import pytest
from scipy import stats

from metarule.statistics import band, interval, lasting, reached, span


def test_values_that_cannot_tell_have_no_interval():
    for values in (np.full(5, 0.25), np.array([0.25]), np.array([0.25, 0.5, 0.75])):
        mean, low, high = interval(values, trim=0.4 if len(values) == 3 else 0.0)
        assert mean == np.median(values)
        assert np.isnan([low, high]).all()
        assert span(low, high) == span(None, None) == "–"


def test_three_values_have_the_interval_of_student():
    # t(.975; 2) = 4.30265, s/√3 = .1/√3
    assert interval(np.array([0.4, 0.5, 0.6])) == pytest.approx((0.5, 0.5 - 0.248414, 0.5 + 0.248414), abs=1e-6)
    assert interval(np.array([0.4, 0.5, 0.6]), limits=(0.3, 0.7)) == pytest.approx((0.5, 0.3, 0.7))


def test_a_trimmed_mean_has_the_interval_of_tukey_and_mclaughlin():
    values = np.array([9.0, 1.0, 2.0, 3.0, -9.0, 4.0, 5.0, 6.0])
    # Of eight the two at either end are cut: 2, 3, 4, 5 are left; winsorised they are 2, 2, 2, 3, 4, 5, 5, 5.
    margin = stats.t.ppf(0.975, 3) * np.sqrt(7 * np.var([2, 2, 2, 3, 4, 5, 5, 5], ddof=1) / (4 * 3))
    assert interval(values, trim=0.25) == pytest.approx((3.5, 3.5 - margin, 3.5 + margin))
    assert interval(values, trim=0.25).mean == pytest.approx(stats.trim_mean(values, 0.25))


def test_interval_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = interval(values)
    assert found.mean == pytest.approx(values.mean())
    margin = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - margin, abs=0.04)
    assert found.high == pytest.approx(values.mean() + margin, abs=0.04)


def test_a_score_is_reached_where_the_mean_is():
    values = np.array([[0.0, 0.5, 1.0, 1.0], [0.0, 0.3, 0.6, 1.0]])
    assert reached(values, [0, 10, 20, 30], 0.8) == (20, 10, 30)
    assert reached(values, [0, 10, 20, 30], 0.4).at == 10
    assert reached(values, [0, 10, 20, 30], 1.5) == (None, None, None)


def test_where_the_lower_end_never_gets_there_the_interval_is_open():
    values = np.repeat([[0.0, 1.0], [0.0, 0.6]], 4, axis=0)
    found = reached(values, [0, 5], 0.79)
    assert (found.at, found.low, found.high) == (5, 5, None)


def test_a_band_is_an_interval_at_each_point():
    values = np.random.default_rng(0).normal(size=(20, 3))
    found = band(values)
    one = interval(values[:, 1], limits=(0.0, 1.0))
    assert (found["mean"][1], found["low"][1], found["high"][1]) == pytest.approx(one)


def test_a_score_that_is_lost_again_is_not_reached():
    assert lasting(np.array([0.0, 0.95, 0.8, 0.92, 0.93]), [0, 1, 2, 3, 4], 0.9) == 3
    assert lasting(np.array([0.95, 0.8]), [0, 1], 0.9) is None
    assert lasting(np.array([0.95, 0.9]), [0, 1], 0.9) == 0
    assert reached(np.array([[0.0, 1.0, 0.5]] * 3), [0, 1, 2], 0.9) == (None, None, None)
