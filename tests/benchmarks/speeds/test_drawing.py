"""The picture stands whatever was measured and whatever is missing."""

import warnings

import pytest

from benchmarks.speeds.drawing import draw_speeds

SHAPE = {"size": "2-4-1", "steps": 200, "lives": 64}
FORMS = [
    SHAPE | {"form": "C", "ratio": 1.0, "minimum_ms": 0.1, "note": ""},
    SHAPE | {"form": "metarule", "ratio": 1234.0, "minimum_ms": 123.4, "note": ""},
    SHAPE | {"form": "TorchOpt", "ratio": None, "minimum_ms": None, "note": "not installed: torchopt"},
]
WITHOUT_C = [row | {"ratio": None} for row in FORMS[1:]]
GROWTH = [
    {"axis": axis, "unit": "life", "point": point, "microseconds": 3.0, "temporary_bytes": 2000 * point}
    for axis in ("lives, 2-4-1", "lives, 64-32-10", "terms, 64-32-10")
    for point in (1, 10)
]
STARTS = [{"config": "boolean", "off": 3.0, "cold": 3.1, "warm": 1.0}]


@pytest.mark.parametrize(
    ("forms", "lyapunov_exponent", "starts"),
    [(FORMS, GROWTH, STARTS), (WITHOUT_C, [], []), ([], GROWTH[:1], []), ([], [], STARTS)],
)
def test_a_picture_is_drawn(forms, growth, starts, tmp_path):
    file = tmp_path / "speed.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_speeds(file, forms, growth, starts)
    assert file.stat().st_size > 5000
