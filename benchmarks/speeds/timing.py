"""What programs take: their time, taken in turns, and what compiling them takes."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["Program", "Timing", "compiled", "take_turns"]

# Turns of a form are at most so many, and at least two however slow it is.
_TURNS = 50
# Seconds that a turn of quick calls lasts: after others have had the caches, the first of them is slower.
_SLICE = 0.1
# Seconds between turns, in which threads of the last form stop waiting for more work.
_REST = 0.01


class Program(NamedTuple):
    """A compiled JAX program.

    Attributes:
        run: takes what it was compiled for, and returns when it is done.
        seconds: that tracing and compiling took.
        temporary_bytes: that it takes beside its input and output, on all devices together.
    """

    run: Callable[..., Any]
    seconds: float
    temporary_bytes: int


class Timing(NamedTuple):
    """How long calls took.

    Attributes:
        runs: how many.
        minimum: seconds of the fastest.
        median: seconds of the one in the middle.
    """

    runs: int
    minimum: float
    median: float


def compiled(function: Callable[..., Any], *given: Any) -> Program:
    """Compile a function.

    Args:
        function: from arrays to arrays.
        given: what it will be called with.

    Returns:
        The program.
    """
    clock = time.perf_counter()
    program = jax.jit(function).lower(*given).compile()
    seconds = time.perf_counter() - clock
    analysis = program.memory_analysis()
    assert analysis is not None, "this backend does not say what memory a program takes"
    devices = {device for place in jax.tree.leaves(program.output_shardings) for device in place.device_set}
    temporary = analysis.temp_size_in_bytes * len(devices)
    return Program(lambda *given: jax.block_until_ready(program(*given)), seconds, temporary)


def take_turns(calls: Sequence[tuple[Callable[[], Any], float]], seconds: float) -> list[Timing]:
    """Time calls in turns, as other work on the machine comes and goes.

    Args:
        calls: each with the seconds that it is known to take; slow ones get fewer turns, spread over all rounds.
        seconds: that the turns of one call should take together.

    Returns:
        One a call.
    """
    turns = [max(2, min(_TURNS, int(seconds / max(expected, _SLICE)))) for _, expected in calls]
    rounds, times = max(turns, default=0), [[] for _ in calls]  # type: tuple[int, list[list[float]]]
    for number in range(rounds):
        for (call, _), count, seen in zip(calls, turns, times, strict=True):
            if (number + 1) * count // rounds > number * count // rounds:
                seen += _turn(call)
    return [Timing(len(seen), min(seen), float(np.median(seen))) for seen in times]


def _turn(call: Callable[[], Any]) -> list[float]:
    time.sleep(_REST)
    times: list[float] = []
    end = time.perf_counter() + _SLICE
    while (clock := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - clock)
    return times
