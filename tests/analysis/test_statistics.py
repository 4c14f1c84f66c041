import numpy as np
import pytest
from scipy import stats

from metarule.analysis.statistics import (
    confidence_band,
    interval,
    interval_text,
    jackknife,
    steps_to_threshold,
    threshold_point,
)


def test_values_without_spread_have_no_interval():
    for values in (np.full(5, 0.25), np.array([0.25]), np.array([0.25, 0.5, 0.75])):
        mean, low, high = interval(values, trim=0.4 if len(values) == 3 else 0.0)
        assert mean == np.median(values)
        assert np.isnan([low, high]).all()
        assert interval_text(low, high) == interval_text(None, None) == "–"


def test_values_that_differ_by_rounding_have_no_interval():
    assert np.isnan(interval(np.array([0.9, 0.8, 0.7]) - np.array([0.8, 0.7, 0.6])).low)


def test_three_values_have_student_s_interval():
    # t(.975; 2) = 4.30265, s/√3 = .1/√3
    assert interval(np.array([0.4, 0.5, 0.6])) == pytest.approx((0.5, 0.5 - 0.248414, 0.5 + 0.248414), abs=1e-6)


def test_the_interval_of_a_share_is_that_of_its_logit():
    # logit(.9) = 2.19722, t(.975; 2)·(.05/√3)/(.9·.1) = 1.380077
    result = interval(np.array([0.85, 0.9, 0.95]), share=True)
    assert result == pytest.approx(
        (0.9, 1 / (1 + np.exp(-2.197225 + 1.380077)), 1 / (1 + np.exp(-2.197225 - 1.380077)))
    )


@pytest.mark.parametrize("units", [3, 5, 10, 20, 128])
@pytest.mark.parametrize("share", [False, True])
def test_the_coverage_of_intervals_is_95_percent(units, share):
    """Of 4,000 intervals 93 to 97 % contain the mean, for normal values and for shares of solved examples."""
    rng = np.random.default_rng(units)
    normal = rng.normal(size=(units, 4000))
    values = rng.binomial(64, 1 / (1 + np.exp(-1 - normal))) / 64 if share else 3 + 2 * normal
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    true = weights @ (1 / (1 + np.exp(-1 - nodes))) / weights.sum() if share else 3.0
    if share:
        band = confidence_band(values)
        low, high = np.array(band["low"]), np.array(band["high"])
    else:
        _, low, high = np.array([interval(column) for column in values.T]).T
    assert 0.93 <= np.mean((low <= true) & (true <= high)) <= 0.97


def test_a_trimmed_mean_has_the_interval_of_tukey_and_mclaughlin():
    values = np.array([9.0, 1.0, 2.0, 3.0, -9.0, 4.0, 5.0, 6.0])
    # Two of eight are cut at either end, which leaves 2, 3, 4, 5; the winsorised values are 2, 2, 2, 3, 4, 5, 5, 5.
    margin = stats.t.ppf(0.975, 3) * np.sqrt(7 * np.var([2, 2, 2, 3, 4, 5, 5, 5], ddof=1) / (4 * 3))
    assert interval(values, trim=0.25) == pytest.approx((3.5, 3.5 - margin, 3.5 + margin))
    assert interval(values, trim=0.25).mean == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_interval_has_its_theoretical_width():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    result = interval(values)
    assert result.mean == pytest.approx(values.mean())
    margin = 1.96 * values.std() / 20
    assert result.low == pytest.approx(values.mean() - margin, abs=0.04)
    assert result.high == pytest.approx(values.mean() + margin, abs=0.04)


def test_steps_to_threshold_are_those_of_the_mean():
    values = np.array([[0.0, 0.5, 1.0, 1.0], [0.0, 0.3, 0.6, 1.0]])
    assert steps_to_threshold(values, [0, 10, 20, 30], 0.8) == (20, 10, 30)
    assert steps_to_threshold(values, [0, 10, 20, 30], 0.4).at == 10
    assert steps_to_threshold(values, [0, 10, 20, 30], 1.5) == (None, None, None)


def test_the_interval_is_open_if_the_lower_end_stays_below():
    values = np.repeat([[0.0, 1.0], [0.0, 0.6]], 4, axis=0)
    result = steps_to_threshold(values, [0, 5], 0.79)
    assert (result.at, result.low, result.high) == (5, 5, None)


def test_a_band_has_an_interval_at_each_point():
    values = np.random.default_rng(0).uniform(size=(20, 3))
    result = confidence_band(values)
    one = interval(values[:, 1], share=True)
    assert (result["mean"][1], result["low"][1], result["high"][1]) == pytest.approx(one)


def test_a_curve_has_to_stay_at_the_threshold():
    assert threshold_point(np.array([0.0, 0.95, 0.8, 0.92, 0.93]), [0, 1, 2, 3, 4], 0.9) == 3
    assert threshold_point(np.array([0.95, 0.8]), [0, 1], 0.9) is None
    assert threshold_point(np.array([0.95, 0.9]), [0, 1], 0.9) == 0
    assert steps_to_threshold(np.array([[0.0, 1.0, 0.5]] * 3), [0, 1, 2], 0.9) == (None, None, None)


def test_the_jackknife_of_a_mean_is_student_s_interval_of_the_means_of_blocks():
    values = np.random.default_rng(0).normal(size=(2, 70)).cumsum(axis=1)
    found = jackknife(values, lambda some: some.mean(axis=1))
    for one, row in zip(found, values, strict=True):
        assert one == pytest.approx(interval(row.reshape(10, 7).mean(axis=1)))
    few = jackknife(values[:, :3], lambda some: some.mean(axis=1))[0]
    assert few.mean == values[0, :3].mean()
    assert np.isnan([few.low, few.high]).all()
