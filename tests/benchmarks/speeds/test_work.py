"""Cost is measured an item of work, and a cost that is not proportional to work is named."""

import pytest

from benchmarks.speeds import library, work
from benchmarks.speeds.work import AXES, cost_curve, verdicts
from benchmarks.timing import Program, Timing


def test_the_gradient_is_timed_at_points_of_an_axis():
    rows = cost_curve("lifetimes, 2-4-1", (1, 2), seconds=0.01)
    assert [(row["point"], row["work"], row["overhead_ms"]) for row in rows] == [(1, 1, None), (2, 2, None)]
    for row in rows:
        assert row["temporary_bytes"] > 0
        assert row["microseconds"] == pytest.approx(row["minimum_ms"] * 1e3 / row["work"])
    assert rows[1]["ratio_to_previous"] == pytest.approx(rows[1]["microseconds"] / rows[0]["microseconds"])


def test_the_overhead_of_any_lifetime_is_subtracted(monkeypatch):
    shapes = []

    def compiled(function, *given):
        shapes.append(given[1].task.input.shape)
        return Program(lambda *given: None, 0.5, 7, 1, str)

    monkeypatch.setattr(library, "compiled", compiled)
    monkeypatch.setattr(work, "take_turns", lambda calls, seconds: [Timing(2, s, s) for s in (0.001, 0.002, 0.005)])
    rows = cost_curve("steps, 2-4-1", (10, 20), seconds=1.0)
    assert shapes == [(64, 2, 2), (64, 10, 2), (64, 20, 2)]
    assert [row["overhead_ms"] for row in rows] == [1.0, 1.0]
    assert [row["microseconds"] for row in rows] == pytest.approx([100.0, 200.0])
    assert rows[1]["ratio_to_previous"] == pytest.approx(2.0)


def test_work_is_counted_in_synapses_and_terms():
    _, _, synapses = AXES["hidden neurons, 64-n-10"].case(8)
    assert synapses == 65 * 8 + 9 * 10
    for terms in (3, 9, 27, 81):
        _, rule, terms_of_work = AXES["terms, 64-32-10"].case(terms)
        assert len(rule.names) == terms_of_work == terms
        assert all(name in rule.initial for name in ("1", "pre"))


def rows_of(name, *costs):
    before, rows = None, []
    for point, cost in costs:
        ratio = cost / before if before else None
        row = {"axis": name, "point": point, "work": point, "microseconds": cost, "ratio_to_previous": ratio}
        rows.append(row | {"overhead_ms": 0.25 if "steps" in name else None, "temporary_bytes": 10 * point})
        before = cost
    return rows


def test_the_stated_points_are_compared():
    rows = rows_of("steps, 2-4-1", (100, 2.0), (1000, 2.0), (10_000, 2.2), (100_000, 3.3))
    assert verdicts(rows) == [
        "steps, 2-4-1: a step takes 1.10 times as long at 10,000 as at 1,000, beyond 0.250 ms of any "
        "lifetime, and 1.00 times the memory",
        "NOT STRAIGHT: steps, 2-4-1: from 10,000 to 100,000 the time of a step grows 1.50-fold",
    ]


def test_the_last_points_are_compared_where_others_were_measured():
    assert verdicts(rows_of("lifetimes, 2-4-1", (1, 4.0), (8, 2.0), (64, 3.0))) == [
        "lifetimes, 2-4-1: a lifetime takes 1.50 times as long at 64 as at 8, and 1.00 times the memory",
        "NOT STRAIGHT: lifetimes, 2-4-1: from 8 to 64 the time of a lifetime grows 1.50-fold",
    ]
    assert verdicts(rows_of("lifetimes, 2-4-1", (1, 4.0))) == []
