"""Selection of NSGA-II: by non-dominated layers, and by crowding distance within the last of them."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

__all__ = ["layers", "selected"]

# Values to be minimised.
Point = tuple[float, ...]


def layers(points: Sequence[Point]) -> list[list[int]]:
    """Indices of points in layers: no point is dominated by one of its own layer or of a later one.

    A point dominates another if it is nowhere larger and somewhere smaller.

    Args:
        points: finite values to be minimised.

    Returns:
        Layers, the front first.
    """
    equal: dict[Point, list[int]] = {}
    for index, point in enumerate(points):
        equal.setdefault(point, []).append(index)
    return [[index for point in layer for index in equal[point]] for layer in _layers(list(equal))]


def selected(points: Sequence[Point], size: int) -> list[int]:
    """Indices of the points that survive: whole layers, and of the last the points with most room around them.

    Args:
        points: finite values to be minimised.
        size: survivors.

    Returns:
        Indices, those of the front first.

    References:
        Deb, Pratap, Agarwal, Meyarivan 2002 (NSGA-II).
    """
    survivors: list[int] = []
    for layer in layers(points):
        if len(survivors) + len(layer) >= size:
            distances = dict(zip(layer, _crowding([points[index] for index in layer])))
            layer = sorted(layer, key=distances.__getitem__, reverse=True)
        survivors += layer
    return survivors[:size]


def _layers(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Layers of points that all differ."""
    dominated = {
        one: [other for other in points if one != other and all(a <= b for a, b in zip(one, other))] for one in points
    }
    dominators = Counter(other for others in dominated.values() for other in others)
    layer = [point for point in points if not dominators[point]]
    while layer:
        yield layer
        following = []
        for point in layer:
            for other in dominated[point]:
                dominators[other] -= 1
                if not dominators[other]:
                    following.append(other)
        layer = following


def _crowding(points: Sequence[Point]) -> list[float]:
    """Crowding distance of each point: the mean over objectives of the gap between its neighbours, by the range."""
    distances, order = [0.0] * len(points), list(range(len(points)))
    for axis in range(len(points[0])):
        order.sort(key=lambda index: points[index][axis])
        values = [points[index][axis] for index in order]
        distances[order[0]] = distances[order[-1]] = math.inf
        span = len(points[0]) * (values[-1] - values[0])
        if span:
            for index, (low, high) in zip(order[1:-1], zip(values, values[2:])):
                distances[index] += (high - low) / span
    return distances
