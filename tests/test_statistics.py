import numpy as np
import pytest

from metarule.statistics import interval


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
