"""All layouts of the C code compute metarule's gradient, and one of them is chosen by its time."""

import math
import shutil

import numpy as np
import pytest

from benchmarks.memory import difference
from benchmarks.speeds import library, limit
from benchmarks.speeds.limit import LAYOUTS, fastest, prepare
from benchmarks.speeds.problem import THETA, Size, draw
from benchmarks.timing import Timing

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
# Three and two vectors of a layer at once, with lanes that are filled up; three lifetimes fill no vector.
SIZES = (Size(3, 6, 3, 40, 3), Size(2, 20, 1, 40, 3))
TIGHT = 0.7  # many weights are clipped
COEFFICIENTS = np.array(THETA, np.float32)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
@pytest.mark.parametrize("bound", [TIGHT, math.inf])
def test_all_layouts_compute_the_gradient(size, bound):
    lifetimes = draw(size)
    losses, expected = library.prepared(size, bound, library.SEVEN, lifetimes).call()
    for layout in LAYOUTS:
        own_losses, gradients = prepare(lifetimes, bound, layout)(COEFFICIENTS)
        assert difference(own_losses, losses) < 1e-5, layout
        assert difference(gradients, expected) < 1e-5, layout


def test_the_fastest_layout_is_taken(monkeypatch):
    def take_turns(calls, seconds):
        return [Timing(2, 1.0 + (number != len(calls) - 1), 2.0) for number in range(len(calls))]

    monkeypatch.setattr(limit, "take_turns", take_turns)
    lifetimes = draw(SIZES[0])
    assert fastest(lifetimes, TIGHT, COEFFICIENTS)[1] == LAYOUTS[-1]
    monkeypatch.setattr(limit, "_MOST_BYTES", 1000)  # weights that no thread may store
    gradients, layout = fastest(lifetimes, TIGHT, COEFFICIENTS)
    assert layout == LAYOUTS[0]
    assert str(layout) == "lanes are neurons, groups of 1"
    assert gradients(COEFFICIENTS)[1].shape == (3, 7)
