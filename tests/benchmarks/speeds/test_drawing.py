"""The figure is drawn also where rows are missing."""

import warnings

import pytest

from benchmarks.speeds.drawing import draw_speeds

SHAPE = {"size": "2-4-1", "steps": 200, "lifetimes": 64}
IMPLEMENTATIONS = [
    SHAPE | {"implementation": "C", "ratio": 1.0, "minimum_ms": 0.1, "note": ""},
    SHAPE | {"implementation": "metarule", "ratio": 1234.0, "minimum_ms": 123.4, "note": ""},
    SHAPE | {"implementation": "TorchOpt", "ratio": None, "minimum_ms": None, "note": "not installed: torchopt"},
]
WITHOUT_C = [row | {"ratio": None} for row in IMPLEMENTATIONS[1:]]
COSTS = [
    {"axis": axis, "item": "lifetime", "point": point, "microseconds": 3.0, "temporary_bytes": 2000 * point}
    for axis in ("lifetimes, 2-4-1", "steps, 64-32-10", "terms, 64-32-10")
    for point in (1, 10)
]
STARTS = [{"config": "boolean", "off": 3.0, "cold": 3.1, "warm": 1.0}]


@pytest.mark.parametrize(
    ("implementations", "costs", "starts"),
    [(IMPLEMENTATIONS, COSTS, STARTS), (WITHOUT_C, [], []), ([], COSTS[:1], []), ([], [], STARTS)],
)
def test_a_figure_is_drawn(implementations, costs, starts, tmp_path):
    file = tmp_path / "speed.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_speeds(file, implementations, costs, starts)
    assert file.stat().st_size > 5000
