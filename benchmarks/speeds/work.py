"""Cost of a θ-gradient of metarule against the amount of work, one axis at a time."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.speeds import library
from benchmarks.speeds.problem import BOUND, Size, draw
from benchmarks.timing import Timing, clocked, take_turns
from metarule import Polynomial

__all__ = ["AXES", "Axis", "cost_curve", "verdicts"]

# Where the cost of an item grows by more, cost is not proportional to work.
_STRAIGHT = 1.2
# Steps of a lifetime whose cost is the overhead of any lifetime.
_SHORT = 2
_FAMILIES = {3: "pre", 9: "pre, modulator", 27: "pre, weight, modulator", 81: "pre, potential, weight, modulator"}


_Case = tuple[Size, Polynomial, int]


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
    case: Callable[[int], _Case]
    pair: tuple[int, int] | None = None
    bound: float = BOUND


def _long(steps: int) -> _Case:
    return Size(64, 32, 10, steps, 2), library.SEVEN, steps


def _rich(terms: int) -> _Case:
    return Size(64, 32, 10, 100, 8), library.stated(f"taylor({_FAMILIES[terms]}; 2)"), terms


AXES: dict[str, Axis] = {
    "steps, 2-4-1": Axis("steps", "step", lambda n: (Size(2, 4, 1, n, 64), library.SEVEN, n), (1000, 10_000)),
    "steps, 64-32-10": Axis("steps", "step", _long, (1000, 10_000)),
    "steps, 64-32-10, without bound": Axis("steps", "step", _long, (1000, 10_000), math.inf),
    "lifetimes, 2-4-1": Axis("lifetimes", "lifetime", lambda n: (Size(2, 4, 1, 200, n), library.SEVEN, n), (64, 4096)),
    "hidden neurons, 64-n-10": Axis(
        "hidden", "synapse", lambda n: (Size(64, n, 10, 100, 8), library.SEVEN, 65 * n + (n + 1) * 10)
    ),
    "terms, 64-32-10": Axis("terms", "term", _rich),
}


def cost_curve(name: str, points: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Time the gradient at ascending points of an axis, in turns, for some seconds each.

    Returns:
        One row a point: `microseconds` of an item, without the `overhead_ms` of a lifetime of two steps where lifetimes
        grow longer; `ratio_to_previous` compares them with those of the previous point.
    """
    axis = AXES[name]
    fixed = [axis.case(_SHORT)] if axis.option == "steps" else []
    cases = [axis.case(point) for point in points]
    timings, memory = _timed([case[:2] for case in fixed + cases], axis.bound, seconds)
    overhead = timings[0].minimum if fixed else 0.0
    rows: list[dict[str, Any]] = []
    for number, (point, (size, _, work)) in enumerate(zip(points, cases, strict=True), len(fixed)):
        microseconds = (timings[number].minimum - overhead) / work * 1e6
        row = {"axis": name, "point": point, "steps": size.steps, "lifetimes": size.lifetimes, "item": axis.item}
        row |= {"work": work, "runs": timings[number].runs, "minimum_ms": timings[number].minimum * 1e3}
        row |= {"median_ms": timings[number].median * 1e3, "overhead_ms": overhead * 1e3 if fixed else None}
        ratio = microseconds / rows[-1]["microseconds"] if rows else None
        row |= {"microseconds": microseconds, "ratio_to_previous": ratio, "temporary_bytes": memory[number]}
        rows.append(row)
    return rows


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines on the rows of one axis: the cost of an item at two points, and intervals over which it is not constant."""
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
    ratios = {(low["point"], high["point"]): longer}
    ratios |= {(low["point"], high["point"]): high["ratio_to_previous"] for low, high in pairwise(rows)}
    return lines + [
        f"NOT STRAIGHT: {low['axis']}: from {first:,} to {last:,} the time of a {axis.item} grows {ratio:.2f}-fold"
        for (first, last), ratio in ratios.items()
        if ratio > _STRAIGHT
    ]


def _timed(cases: Sequence[tuple[Size, Polynomial]], bound: float, seconds: float) -> tuple[list[Timing], list[int]]:
    """Times and temporary bytes of the gradient of each problem and rule."""
    calls, memory = [], []
    for size, rule in cases:
        prepared = library.prepared(size, bound, rule, draw(size))
        calls.append((prepared.call, clocked(prepared.call)[1]))
        memory.append(prepared.temporary_bytes)
    return take_turns(calls, seconds), memory
