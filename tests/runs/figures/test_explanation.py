import numpy as np
from inking import inked

from metarule.runs.figures import draw_maps, draw_shares


def row(mean):
    return {"mean": mean, "low": None, "high": None}


def report(parts=2, terms=15, maps=4):
    shares = {f"pre^{power}": row((-1) ** power / power) for power in range(1, terms + 1)} or None
    axis = np.linspace(-1, 1, 5).tolist()
    one = {"group": "", "x": "pre", "y": "post", "x_values": axis, "y_values": axis, "means": {"weight": -0.5}}
    one |= {"change": np.outer(axis, axis).tolist(), "x_visited": [0.1, 9.0], "y_visited": [0.2, 0.3]}
    part = {"part": "projection 1", "deviation": 0.1, "shares": shares}
    return {"parts": [part] * parts, "maps": [one] * maps}


def test_shares_of_many_terms(tmp_path):
    draw_shares(tmp_path / "shares.png", report())
    assert inked(tmp_path / "shares.png")
    text = draw_shares.svg(report())
    for words in ("pre²", "3 other terms", "50 %", "−100 %", "(standard deviation of Δw: 0.1)"):
        assert words in text


def test_maps_name_axes_and_means(tmp_path):
    draw_maps(tmp_path / "map.png", report())
    assert inked(tmp_path / "map.png")
    text = draw_maps.svg(report(maps=1))
    for words in ("pre", "post", "Δw", "Δw, and visited states (dots)", "weight\N{NO-BREAK SPACE}−0.5"):
        assert words in text


def test_nothing_is_drawn_without_numbers(tmp_path):
    draw_shares(tmp_path / "shares.png", report(terms=0))
    draw_maps(tmp_path / "map.png", report(maps=0))
    draw_maps(tmp_path / "map.png", report(), "projection 2")
    assert not any(tmp_path.iterdir())
