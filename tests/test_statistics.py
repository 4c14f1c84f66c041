import numpy as np
import pytest

from metarule.statistics import band, interval, lasting, reached


def test_interval_of_a_constant_is_a_point():
    assert interval(np.full(5, 0.25)) == (0.25, 0.25, 0.25)
    assert interval(np.array([0.5])) == (0.5, 0.5, 0.5)


def test_interval_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = interval(values)
    assert found.mean == pytest.approx(values.mean())
    margin = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - margin, abs=0.04)
    assert found.high == pytest.approx(values.mean() + margin, abs=0.04)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = [
        low <= 0.3 <= high for _, low, high in (interval((rng.random(200) < 0.3).astype(float)) for _ in range(100))
    ]
    assert 86 <= sum(covered) <= 100  # of 100 draws of a binomial with p = .95, fewer than 86 come once in 5,000


def test_a_score_is_reached_where_the_mean_is():
    values = np.array([[0.0, 0.5, 1.0, 1.0], [0.0, 0.3, 0.6, 1.0]])
    assert reached(values, [0, 10, 20, 30], 0.8) == (20, 20, 30)
    assert reached(values, [0, 10, 20, 30], 0.4).at == 10
    assert reached(values, [0, 10, 20, 30], 1.5) == (None, None, None)


def test_where_some_resamples_never_get_there_the_interval_is_open():
    values = np.repeat([[0.0, 1.0], [0.0, 0.6]], 4, axis=0)
    found = reached(values, [0, 5], 0.79)
    assert (found.at, found.low, found.high) == (5, 5, None)


def test_a_band_is_an_interval_at_each_point():
    values = np.random.default_rng(0).normal(size=(20, 3))
    found = band(values)
    assert (found["mean"][1], found["low"][1], found["high"][1]) == interval(values[:, 1])


def test_a_score_that_is_lost_again_is_not_reached():
    assert lasting(np.array([0.0, 0.95, 0.8, 0.92, 0.93]), [0, 1, 2, 3, 4], 0.9) == 3
    assert lasting(np.array([0.95, 0.8]), [0, 1], 0.9) is None
    assert lasting(np.array([0.95, 0.9]), [0, 1], 0.9) == 0
    assert reached(np.array([[0.0, 1.0, 0.5]] * 3), [0, 1, 2], 0.9) == (None, None, None)
