"""What a θ-gradient of metarule costs as work grows, one axis at a time."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.speeds import library
from benchmarks.speeds.forms import BOUND, stated
from benchmarks.speeds.problem import Size, draw
from benchmarks.speeds.timing import Timing, compiled, take_turns
from metarule import Polynomial
from metarule.prng import run_key

__all__ = ["AXES", "Axis", "grow", "verdicts"]

# Where the cost of a unit grows by more, cost is no straight line.
_STRAIGHT = 1.2
# Steps of a lifetime whose cost is that of any life.
_SHORT = 2
_FAMILIES = {3: "pre", 9: "pre, modulator", 27: "pre, weight, modulator", 81: "pre, potential, weight, modulator"}
_SEVEN = stated(*library.SEVEN.terms)


class Axis(NamedTuple):
    """What grows.

    Attributes:
        option: of the program, with the points.
        unit: one piece of the work.
        case: from a point to the problem, its rule and its work in units.
        pair: points that are compared; the last two where they are not among those measured.
        bound: of weights; where they come to it, which they do in long lifetimes, steps are lived again.
    """

    option: str
    unit: str
    case: Callable[[int], tuple[Size, Polynomial, int]]
    pair: tuple[int, int] | None = None
    bound: float = BOUND


class _Measured(NamedTuple):
    timing: Timing
    temporary_bytes: int


def _long(network: tuple[int, int, int], lifetimes: int, steps: int) -> tuple[Size, Polynomial, int]:
    return Size(*network, steps, lifetimes), _SEVEN, steps


def _many(lifetimes: int) -> tuple[Size, Polynomial, int]:
    return Size(2, 4, 1, 200, lifetimes), _SEVEN, lifetimes


def _wide(hidden: int) -> tuple[Size, Polynomial, int]:
    size = Size(64, hidden, 10, 100, 8)
    return size, _SEVEN, (size.inputs + 1) * hidden + (hidden + 1) * size.outputs


def _rich(terms: int) -> tuple[Size, Polynomial, int]:
    return Size(64, 32, 10, 100, 8), stated(f"taylor({_FAMILIES[terms]}; 2)"), terms


AXES: dict[str, Axis] = {
    "steps, 2-4-1": Axis("steps", "step", partial(_long, (2, 4, 1), 64), (1000, 10_000)),
    "steps, 64-32-10": Axis("steps", "step", partial(_long, (64, 32, 10), 2), (1000, 10_000)),
    "steps, 64-32-10, without_bound": Axis("steps", "step", partial(_long, (64, 32, 10), 2), (1000, 10_000), math.inf),
    "lives, 2-4-1": Axis("lives", "life", _many, (64, 4096)),
    "hidden neurons, 64-n-10": Axis("hidden", "synapse", _wide),
    "terms, 64-32-10": Axis("terms", "term", _rich),
}


def grow(name: str, points: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Time the gradient at points of an axis, in turns.

    Args:
        name: of the axis.
        points: in ascending order.
        seconds: that the calls at one point should take.

    Returns:
        One row a point. Where lives grow longer, `overhead_ms` is what a lifetime of two steps takes, which is no
        part of the `microseconds` of a unit. `growth` is by how much a unit takes longer than at the point before.
    """
    axis = AXES[name]
    cases = [axis.case(point) for point in points]
    fixed = [axis.case(_SHORT)] if axis.option == "steps" else []
    found = _measured([(size, rule) for size, rule, _ in fixed + cases], axis.bound, seconds)
    overhead = found[0].timing.minimum if fixed else 0.0
    rows: list[dict[str, Any]] = []
    for point, (size, _, work), one in zip(points, cases, found[len(fixed) :], strict=True):
        each = (one.timing.minimum - overhead) / work * 1e6
        row = {
            "axis": name,
            "point": point,
            "steps": size.steps,
            "lives": size.lifetimes,
            "unit": axis.unit,
            "work": work,
            "runs": one.timing.runs,
            "minimum_ms": one.timing.minimum * 1e3,
            "median_ms": one.timing.median * 1e3,
            "overhead_ms": overhead * 1e3 if fixed else None,
            "microseconds": each,
            "lyapunov_exponent": each / rows[-1]["microseconds"] if rows else None,
            "temporary_bytes": one.temporary_bytes,
        }
        rows.append(row)
    return rows


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the rows of one axis say.

    Args:
        rows: as from `grow`.

    Returns:
        How the cost of a unit compares at two points, if there are two; and every segment_loss where cost is not a straight
        line.
    """
    if len(rows) < 2:
        return []
    axis = AXES[rows[0]["axis"]]
    at = {row["point"]: row for row in rows}
    low, high = (at[point] for point in (axis.pair if axis.pair and set(axis.pair) <= set(at) else list(at)[-2:]))
    longer = high["microseconds"] / low["microseconds"]
    memory = high["temporary_bytes"] / low["temporary_bytes"] * low["work"] / high["work"]
    beyond = f", beyond {low['overhead_ms']:.3f} ms of any life" if low["overhead_ms"] else ""
    lines = [
        f"{low['axis']}: a {axis.unit} takes {longer:.2f} times as long at {high['point']:,} as at {low['point']:,}"
        f"{beyond}, and {memory:.2f} times the memory"
    ]
    steps = [(low, high, longer)] + [(low, high, high["lyapunov_exponent"]) for low, high in pairwise(rows)]
    bent = {(low["point"], high["point"]): ratio for low, high, ratio in steps if ratio > _STRAIGHT}
    return lines + [
        f"NOT STRAIGHT: {low['axis']}: from {first:,} to {last:,} the time of a {axis.unit} grows {ratio:.2f}-fold"
        for (first, last), ratio in bent.items()
    ]


def _measured(cases: Sequence[tuple[Size, Polynomial]], bound: float, seconds: float) -> list[_Measured]:
    programs, calls = [], []
    for size, rule in cases:
        who, theta = library.learner(size, bound, rule), rule.init(run_key(0))
        born = library.born(who, draw(size))
        program = compiled(library.gradients(who), theta, *born)
        call = partial(program.run, theta, *born)
        clock = time.perf_counter()
        call()
        programs.append(program)
        calls.append((call, time.perf_counter() - clock))
    timings = take_turns(calls, seconds)
    return [_Measured(timing, one.temporary_bytes) for timing, one in zip(timings, programs, strict=True)]
