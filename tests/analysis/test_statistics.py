import numpy as np
import pytest
from scipy import stats

from metarule.analysis.statistics import band, interval, span, steps_to_threshold, with_steps


def test_values_that_cannot_tell_have_no_interval():
    for values in (np.full(5, 0.25), np.array([0.25]), np.array([0.25, 0.5, 0.75])):
        mean, low, high = interval(values, trim=0.4 if len(values) == 3 else 0.0)
        assert mean == np.median(values)
        assert np.isnan([low, high]).all()
        assert span(low, high) == span(None, None) == "–"


def test_values_that_differ_by_rounding_are_alike():
    assert np.isnan(interval(np.array([0.9, 0.8, 0.7]) - np.array([0.8, 0.7, 0.6])).low)


def test_three_values_have_the_interval_of_student():
    # t(.975; 2) = 4.30265, s/√3 = .1/√3
    assert interval(np.array([0.4, 0.5, 0.6])) == pytest.approx((0.5, 0.5 - 0.248414, 0.5 + 0.248414), abs=1e-6)


def test_the_interval_of_a_share_is_that_of_its_logit():
    # logit(.9) = 2.19722, t(.975; 2)·(.05/√3)/(.9·.1) = 1.380077
    found = interval(np.array([0.85, 0.9, 0.95]), share=True)
    assert found == pytest.approx((0.9, 1 / (1 + np.exp(-2.197225 + 1.380077)), 1 / (1 + np.exp(-2.197225 - 1.380077))))


@pytest.mark.parametrize("units", [3, 5, 10, 20, 128])
@pytest.mark.parametrize("share", [False, True])
def test_an_interval_covers_the_mean_as_often_as_it_says(units, share):
    """Of 4,000 intervals 93 to 97 % hold the mean: of values that are normal, and of shares of examples solved."""
    rng = np.random.default_rng(units)
    hard = rng.normal(size=(units, 4000))
    values = rng.binomial(64, 1 / (1 + np.exp(-1 - hard))) / 64 if share else 3 + 2 * hard
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    true = weights @ (1 / (1 + np.exp(-1 - nodes))) / weights.sum() if share else 3.0
    if share:
        ends = band(values)
        low, high = np.array(ends["low"]), np.array(ends["high"])
    else:
        _, low, high = np.array([interval(column) for column in values.T]).T
    assert 0.93 <= np.mean((low <= true) & (true <= high)) <= 0.97


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
    assert steps_to_threshold(values, [0, 10, 20, 30], 0.8) == (20, 10, 30)
    assert steps_to_threshold(values, [0, 10, 20, 30], 0.4).at == 10
    assert steps_to_threshold(values, [0, 10, 20, 30], 1.5) == (None, None, None)


def test_where_the_lower_end_never_gets_there_the_interval_is_open():
    values = np.repeat([[0.0, 1.0], [0.0, 0.6]], 4, axis=0)
    found = steps_to_threshold(values, [0, 5], 0.79)
    assert (found.at, found.low, found.high) == (5, 5, None)


def test_a_band_is_an_interval_at_each_point():
    values = np.random.default_rng(0).uniform(size=(20, 3))
    found = band(values)
    one = interval(values[:, 1], share=True)
    assert (found["mean"][1], found["low"][1], found["high"][1]) == pytest.approx(one)


def test_a_score_that_is_lost_again_is_not_reached():
    assert with_steps(np.array([0.0, 0.95, 0.8, 0.92, 0.93]), [0, 1, 2, 3, 4], 0.9) == 3
    assert with_steps(np.array([0.95, 0.8]), [0, 1], 0.9) is None
    assert with_steps(np.array([0.95, 0.9]), [0, 1], 0.9) == 0
    assert steps_to_threshold(np.array([[0.0, 1.0, 0.5]] * 3), [0, 1, 2], 0.9) == (None, None, None)
