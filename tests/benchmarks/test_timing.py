"""Calls take turns, slow ones fewer of them; programs report their time and memory."""

import jax.numpy as jnp
import pytest

from benchmarks import timing


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when it is set."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)
    return now


def test_slow_calls_get_fewer_turns_spread_over_all_rounds(clock):
    order = []

    def taking(name, seconds):
        def call():
            order.append(name)
            clock[0] += seconds[order.count(name) - 1] if isinstance(seconds, list) else seconds

        return call

    calls = [(taking("quick", 0.5), 0.5), (taking("slow", [9.0, 7.0]), 8.0)]
    quick, slow = timing.take_turns(calls, seconds=2.0)
    assert order == ["quick", "quick", "slow", "quick", "quick", "slow"]
    assert quick == timing.Timing(4, 0.5, 0.5)
    assert slow == timing.Timing(2, 7.0, 8.0)


def test_very_quick_calls_are_repeated_within_a_turn(clock):
    def call():
        clock[0] += 0.0625

    (result,) = timing.take_turns([(call, 0.0625)], seconds=0.1)
    assert result.runs == 4  # two turns of two calls, which fill a tenth of a second


def test_nothing_takes_no_turns():
    assert timing.take_turns([], seconds=1.0) == []


def test_a_compiled_program_reports_time_and_memory():
    program = timing.compiled(lambda x: jnp.sin(x) @ x.T, jnp.ones((3, 2)))
    assert program.run(jnp.zeros((3, 2))).tolist() == [[0.0] * 3] * 3
    assert program.seconds > 0
    assert program.temporary_bytes >= 0
    assert "sine" in program.text()
