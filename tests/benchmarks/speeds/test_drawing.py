"""The figure is drawn also where rows are missing."""

import warnings

import pytest

from benchmarks.speeds.drawing import draw_speeds

pytestmark = pytest.mark.drawn

SHAPE = {"size": "2-4-1", "steps": 200, "lifetimes": 64}
IMPLEMENTATIONS = [
    SHAPE | {"form": "C", "ratio": 1.0, "ms": 0.1, "note": ""},
    SHAPE | {"form": "metarule, kernel", "ratio": 1234.0, "ms": 123.4, "note": ""},
    SHAPE | {"form": "TorchOpt", "ratio": None, "ms": None, "note": "not installed: torchopt"},
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
