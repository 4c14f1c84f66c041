"""Cost is measured a unit of work, and where it is no straight line that is said."""

import pytest

from benchmarks.speeds import growth
from benchmarks.speeds.growth import AXES, grow, verdicts
from benchmarks.speeds.timing import Program, Timing


def test_the_gradient_is_timed_at_points_of_an_axis():
    rows = grow("lives, 2-4-1", (1, 2), seconds=0.01)
    assert [(row["point"], row["work"], row["overhead_ms"]) for row in rows] == [(1, 1, None), (2, 2, None)]
    for row in rows:
        assert row["temporary_bytes"] > 0
        assert row["microseconds"] == pytest.approx(row["minimum_ms"] * 1e3 / row["work"])
    assert rows[1]["lyapunov_exponent"] == pytest.approx(rows[1]["microseconds"] / rows[0]["microseconds"])


def test_what_any_life_takes_is_told_apart(monkeypatch):
    seen = []

    def compiled(function, *given):
        seen.append(given[1].task.input.shape)
        return Program(lambda *given: None, 0.5, 7)

    monkeypatch.setattr(growth, "compiled", compiled)
    monkeypatch.setattr(growth, "take_turns", lambda calls, seconds: [Timing(2, s, s) for s in (0.001, 0.002, 0.005)])
    rows = grow("steps, 2-4-1", (10, 20), seconds=1.0)
    assert seen == [(64, 2, 2), (64, 10, 2), (64, 20, 2)]
    assert [row["overhead_ms"] for row in rows] == [1.0, 1.0]
    assert [row["microseconds"] for row in rows] == pytest.approx([100.0, 200.0])
    assert rows[1]["lyapunov_exponent"] == pytest.approx(2.0)


def test_work_is_counted_in_synapses_and_terms():
    _, _, synapses = AXES["hidden neurons, 64-n-10"].case(8)
    assert synapses == 65 * 8 + 9 * 10
    for terms in (3, 9, 27, 81):
        _, rule, work = AXES["terms, 64-32-10"].case(terms)
        assert len(rule.names) == work == terms
        assert all(name in rule.initial for name in ("1", "pre"))


def rows_of(name, *costs):
    before, rows = None, []
    for point, cost in costs:
        growth = cost / before if before else None
        row = {"axis": name, "point": point, "work": point, "microseconds": cost, "lyapunov_exponent": growth}
        rows.append(row | {"overhead_ms": 0.25 if "steps" in name else None, "temporary_bytes": 10 * point})
        before = cost
    return rows


def test_the_stated_points_are_compared():
    rows = rows_of("steps, 2-4-1", (100, 2.0), (1000, 2.0), (10_000, 2.2), (100_000, 3.3))
    assert verdicts(rows) == [
        "steps, 2-4-1: a step takes 1.10 times as long at 10,000 as at 1,000, beyond 0.250 ms of any "
        "life, and 1.00 times the memory",
        "NOT STRAIGHT: steps, 2-4-1: from 10,000 to 100,000 the time of a step grows 1.50-fold",
    ]


def test_the_last_points_are_compared_where_others_were_measured():
    assert verdicts(rows_of("lives, 2-4-1", (1, 4.0), (8, 2.0), (64, 3.0))) == [
        "lives, 2-4-1: a lifetime takes 1.50 times as long at 64 as at 8, and 1.00 times the memory",
        "NOT STRAIGHT: lives, 2-4-1: from 8 to 64 the time of a lifetime grows 1.50-fold",
    ]
    assert verdicts(rows_of("lives, 2-4-1", (1, 4.0))) == []
