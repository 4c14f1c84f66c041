"""Races are read from sweeps and compared by seed and by score."""

import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from benchmarks import races
from benchmarks.races import Racer, cost_to, draw_races, read_race, scores_at
from benchmarks.timing import Timing
from metarule import Evolution, Truncated
from metarule.runs.files import write_json

pytestmark = pytest.mark.drawn

SEEDS = (0, 1, 2, 3)


def racer(method, ends, terms=7, scale=1.0):
    marks = np.array([1.0, 10.0, 100.0])
    learning_curves = np.outer(ends, [0.1, 0.5, 1.0])
    return Racer(method, terms, "spread = 0.1", SEEDS[: len(ends)], scale * marks, 0.01 * marks, learning_curves)


def test_a_sweep_is_read_case_by_case(tmp_path):
    cases = ("gradient, 7 terms", "CMA-ES, 81 terms", "not done, 7 terms")
    settings = [{"label": f"{case}, spread = 0.1", "values": {"case": case, "optimizer.spread": 0.1}} for case in cases]
    write_json(tmp_path / "plan.json", {"settings": settings, "cells": [{"name": "a"}, {"name": "b"}]})
    points = [{"setting": number, "seed": seed, "curve": [0.1 * seed, 0.5]} for number in (0, 1) for seed in (1, 0)]
    (tmp_path / "cells" / "a" / "done").mkdir(parents=True)
    result = {"points": points, "marks": [1, 4], "lifetimes": [10, 40], "seconds": {"meta_step": 0.5}}
    write_json(tmp_path / "cells" / "a" / "done" / "result.json", result)
    one, other = read_race(tmp_path, {"gradient, 7 terms": 3.0})
    assert (one.method, one.terms, one.setting, one.seeds) == ("gradient", 7, "spread = 0.1", (0, 1))
    assert (other.method, other.terms) == ("CMA-ES", 81)
    np.testing.assert_array_equal(one.lifetimes, [30, 120])
    np.testing.assert_array_equal(other.lifetimes, [10, 40])
    np.testing.assert_array_equal(one.seconds, [0.5, 2.0])
    np.testing.assert_array_equal(one.learning_curves, [[0.0, 0.5], [0.1, 0.5]])


def test_a_score_is_reached_where_the_mean_over_seeds_stays_there():
    one = racer("one", [0.2, 0.8, 0.8, 0.8], scale=2.0)
    assert cost_to(one, 0.4) == 20.0
    assert cost_to(one, 0.41) == 200.0
    assert cost_to(one, 0.81) is None
    lucky = one._replace(learning_curves=one.learning_curves[:, [2, 0, 1]])
    assert cost_to(lucky, 0.4) == 200.0
    assert cost_to(lucky, 0.05) == 2.0
    assert cost_to(one, 0.4, "seconds") == 0.1


def test_scores_between_marks_are_linear():
    one = racer("one", [0.2, 0.8], scale=2.0)
    assert scores_at(one, 20.0, "lifetimes") == pytest.approx({0: 0.1, 1: 0.4})
    assert scores_at(one, 0.055, "seconds") == pytest.approx({0: 0.06, 1: 0.24})
    assert scores_at(one, 1e9, "seconds") == one.final


def test_every_family_and_size_has_its_panels(tmp_path):
    racers = {
        "boolean": [racer("one", [0.2, 0.8]), racer("other", [0.1, 0.2], terms=81)],
        "points": [racer("one", [1.0])],
    }
    draw_races(tmp_path / "figures" / "search.png", racers)
    assert (tmp_path / "figures" / "search.png").stat().st_size > 20_000


@pytest.mark.parametrize(("estimator", "cost"), [(Truncated(window=5), 6.0), (Evolution(pairs=2), 1.5)])
def test_the_cost_is_the_ratio_of_the_fastest_runs(estimator, cost, monkeypatch):
    monkeypatch.setattr(races, "_LIFETIMES", 4)
    monkeypatch.setattr(races, "_SHARED", 2)
    monkeypatch.setattr(races, "take_turns", lambda calls, seconds: [Timing(5, 1.0, 3.0), Timing(5, 6.0, 8.0)])
    optimizer = replace(EXPERIMENT.optimizer, estimator=estimator)
    assert races.relative_cost(replace(EXPERIMENT, optimizer=optimizer)) == cost
