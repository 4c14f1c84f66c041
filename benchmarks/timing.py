"""Times of calls, taken in turns, and compile time and memory of programs."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["Program", "Timing", "clocked", "compiled", "take_turns"]

# Most turns of a call; there are at least two.
_TURNS = 50
# Seconds of a turn of quick calls, the first of which is slower: others have used the caches.
_SLICE = 0.1
# Seconds between turns, in which threads of the last call stop waiting for work.
_REST = 0.01


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        run: returns when it is done.
        seconds: for tracing, lowering and compiling.
        temporary_bytes: of each device.
        devices: number of devices.
        text: its operations.
    """

    run: Callable[..., Any]
    seconds: float
    temporary_bytes: int
    devices: int
    text: Callable[[], str]


class Timing(NamedTuple):
    """Number of calls, and the minimum and median of their seconds."""

    runs: int
    minimum: float
    median: float


def clocked(call: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """Result of a call, and its seconds."""
    clock = time.perf_counter()
    return call(*given), time.perf_counter() - clock


def compiled(function: Callable[..., Any], *given: Any) -> Program:
    """Compile a function from arrays to arrays for some arguments, or their shapes."""
    program, seconds = clocked(lambda: jax.jit(function).lower(*given).compile())
    analysis = program.memory_analysis()
    assert analysis is not None, "this backend does not report the memory of programs"
    devices = {device for place in jax.tree.leaves(program.output_shardings) for device in place.device_set}
    return Program(partial(_finished, program), seconds, analysis.temp_size_in_bytes, len(devices), program.as_text)


def _finished(program: Callable[..., Any], *given: Any) -> Any:
    return jax.block_until_ready(program(*given))


def take_turns(calls: Sequence[tuple[Callable[[], Any], float]], seconds: float) -> list[Timing]:
    """Time calls in turns, since other work on the machine comes and goes.

    Args:
        calls: each with its expected seconds; slow ones get fewer turns, spread over all rounds.
        seconds: for all turns of one call.
    """
    turns = [max(2, min(_TURNS, int(seconds / max(expected, _SLICE)))) for _, expected in calls]
    rounds, times = max(turns, default=0), [[] for _ in calls]  # type: tuple[int, list[list[float]]]
    for number in range(rounds):
        for (call, _), count, results in zip(calls, turns, times, strict=True):
            if (number + 1) * count // rounds > number * count // rounds:
                results += _turn(call)
    return [Timing(len(results), min(results), float(np.median(results))) for results in times]


def _turn(call: Callable[[], Any]) -> list[float]:
    time.sleep(_REST)
    times: list[float] = []
    end = time.perf_counter() + _SLICE
    while time.perf_counter() < end:
        times.append(clocked(call)[1])
    return times
