"""Selection of NSGA-II: by non-dominated layers, and by crowding distance within the last one."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

__all__ = ["nondominated_layers", "select"]

# Values to be minimised.
Point = tuple[float, ...]


def nondominated_layers(points: Sequence[Point]) -> list[list[int]]:
    """Divide points into layers, the Pareto front first: no point is dominated by one of its own or of a later layer.

    A point dominates another if no value is larger and at least one is smaller.

    Args:
        points: finite values to be minimised.

    Returns:
        Indices of the points of each layer.
    """
    equal: dict[Point, list[int]] = {}
    for index, point in enumerate(points):
        equal.setdefault(point, []).append(index)
    return [[index for point in layer for index in equal[point]] for layer in _layers(list(equal))]


def select(points: Sequence[Point], size: int) -> list[int]:
    """Select survivors: complete layers, and the points with the largest crowding distance of the last layer.

    Args:
        points: finite values to be minimised.
        size: number of survivors.

    Returns:
        Indices, those of the Pareto front first.

    References:
        Deb, Pratap, Agarwal, Meyarivan 2002 (NSGA-II).
    """
    survivors: list[int] = []
    for layer in nondominated_layers(points):
        if len(survivors) + len(layer) >= size:
            distances = dict(zip(layer, _crowding([points[index] for index in layer])))
            layer = sorted(layer, key=distances.__getitem__, reverse=True)
        survivors += layer
    return survivors[:size]


def _layers(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Layers of distinct points."""
    dominated = {
        one: [other for other in points if one != other and all(a <= b for a, b in zip(one, other))] for one in points
    }
    dominators = Counter(other for others in dominated.values() for other in others)
    layer = [point for point in points if not dominators[point]]
    while layer:
        yield layer
        next_layer = []
        for point in layer:
            for other in dominated[point]:
                dominators[other] -= 1
                if not dominators[other]:
                    next_layer.append(other)
        layer = next_layer


def _crowding(points: Sequence[Point]) -> list[float]:
    """Crowding distance of each point: mean over objectives of the gap between its neighbours divided by the range."""
    distances, order = [0.0] * len(points), list(range(len(points)))
    for axis in range(len(points[0])):
        order.sort(key=lambda index: points[index][axis])
        values = [points[index][axis] for index in order]
        distances[order[0]] = distances[order[-1]] = math.inf
        scale = len(points[0]) * (values[-1] - values[0])
        if scale:
            for index, (low, high) in zip(order[1:-1], zip(values, values[2:])):
                distances[index] += (high - low) / scale
    return distances
