"""Cost of a θ-gradient of metarule against the amount of work, one axis at a time."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.speeds import library
from benchmarks.speeds.implementations import BOUND, stated
from benchmarks.speeds.problem import Size, draw
from benchmarks.speeds.timing import Timing, compiled, take_turns
from metarule import Polynomial
from metarule.prng import run_key

__all__ = ["AXES", "Axis", "cost_curve", "verdicts"]

# Where the cost of an item grows by more, cost is not proportional to work.
_STRAIGHT = 1.2
# Steps of a lifetime whose cost is the overhead of any lifetime.
_SHORT = 2
_FAMILIES = {3: "pre", 9: "pre, modulator", 27: "pre, weight, modulator", 81: "pre, potential, weight, modulator"}
_SEVEN = stated(*library.SEVEN.terms)


class Axis(NamedTuple):
    """Axis along which work grows.

    Attributes:
        option: of the program, with the points.
        item: one piece of the work.
        case: from a point to the problem, its rule and its work in items.
        pair: points that are compared; the last two where they are not among those measured.
        bound: of weights; steps of long lifetimes that clip weights are recomputed.
    """

    option: str
    item: str
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
    "steps, 64-32-10, without bound": Axis("steps", "step", partial(_long, (64, 32, 10), 2), (1000, 10_000), math.inf),
    "lifetimes, 2-4-1": Axis("lifetimes", "lifetime", _many, (64, 4096)),
    "hidden neurons, 64-n-10": Axis("hidden", "synapse", _wide),
    "terms, 64-32-10": Axis("terms", "term", _rich),
}


def cost_curve(name: str, points: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Time the gradient at points of an axis, in turns.

    Args:
        name: of the axis.
        points: in ascending order.
        seconds: for the calls at one point.

    Returns:
        One row a point: `microseconds` of an item, without the `overhead_ms` of a lifetime of two steps where lifetimes
        grow longer; `ratio_to_previous` compares them with those of the previous point.
    """
    axis = AXES[name]
    cases = [axis.case(point) for point in points]
    fixed = [axis.case(_SHORT)] if axis.option == "steps" else []
    measured = _measured([(size, rule) for size, rule, _ in fixed + cases], axis.bound, seconds)
    overhead = measured[0].timing.minimum if fixed else 0.0
    rows: list[dict[str, Any]] = []
    for point, (size, _, work), one in zip(points, cases, measured[len(fixed) :], strict=True):
        microseconds = (one.timing.minimum - overhead) / work * 1e6
        row = {
            "axis": name,
            "point": point,
            "steps": size.steps,
            "lifetimes": size.lifetimes,
            "item": axis.item,
            "work": work,
            "runs": one.timing.runs,
            "minimum_ms": one.timing.minimum * 1e3,
            "median_ms": one.timing.median * 1e3,
            "overhead_ms": overhead * 1e3 if fixed else None,
            "microseconds": microseconds,
            "ratio_to_previous": microseconds / rows[-1]["microseconds"] if rows else None,
            "temporary_bytes": one.temporary_bytes,
        }
        rows.append(row)
    return rows


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare the rows of one axis.

    Args:
        rows: as from `cost_curve`.

    Returns:
        Lines: the cost of an item at two points, and each interval over which cost is not proportional to work.
    """
    if len(rows) < 2:
        return []
    axis = AXES[rows[0]["axis"]]
    at = {row["point"]: row for row in rows}
    low, high = (at[point] for point in (axis.pair if axis.pair and set(axis.pair) <= set(at) else list(at)[-2:]))
    longer = high["microseconds"] / low["microseconds"]
    memory = high["temporary_bytes"] / low["temporary_bytes"] * low["work"] / high["work"]
    beyond = f", beyond {low['overhead_ms']:.3f} ms of any lifetime" if low["overhead_ms"] else ""
    lines = [
        f"{low['axis']}: a {axis.item} takes {longer:.2f} times as long at {high['point']:,} as at {low['point']:,}"
        f"{beyond}, and {memory:.2f} times the memory"
    ]
    pairs = [(low, high, longer)] + [(low, high, high["ratio_to_previous"]) for low, high in pairwise(rows)]
    bent = {(low["point"], high["point"]): ratio for low, high, ratio in pairs if ratio > _STRAIGHT}
    return lines + [
        f"NOT STRAIGHT: {low['axis']}: from {first:,} to {last:,} the time of a {axis.item} grows {ratio:.2f}-fold"
        for (first, last), ratio in bent.items()
    ]


def _measured(cases: Sequence[tuple[Size, Polynomial]], bound: float, seconds: float) -> list[_Measured]:
    programs, calls = [], []
    for size, rule in cases:
        lifetime, theta = library.learner(size, bound, rule), rule.init(run_key(0))
        initial = library.initial(lifetime, draw(size))
        program = compiled(library.gradients(lifetime), theta, *initial)
        call = partial(program.run, theta, *initial)
        clock = time.perf_counter()
        call()
        programs.append(program)
        calls.append((call, time.perf_counter() - clock))
    timings = take_turns(calls, seconds)
    return [_Measured(timing, one.temporary_bytes) for timing, one in zip(timings, programs, strict=True)]
