"""Styles of methods."""

from itertools import combinations
from typing import get_args

import pytest
from matplotlib.figure import Figure

from metarule.analysis.baselines import BaselineName
from metarule.runs.figures.methods import KNOWN, legend_entries, mark, style_of

OFTEN = (
    ("learned", "initial", "delta", "feedback_alignment", "backprop", "adam"),
    ("learned", "initial", "reward_hebb", "reinforce", "q_learning", "ideal_observer"),
    ("learned", "initial", "rescorla_wagner", "sutton_barto"),
    ("learned, adapting", "random, adapting", "delta, adapting"),
)


def test_every_contender_has_a_style_of_its_own():
    contenders = ("learned", "initial", *get_args(BaselineName))
    assert set(contenders) < set(KNOWN)
    styles = [KNOWN[name] for name in contenders]
    assert len({(line, marker) for _, line, marker in styles}) == len(styles)
    assert len({(colour, line) for colour, line, _ in styles}) == len(styles)


@pytest.mark.parametrize("names", OFTEN)
def test_those_of_one_figure_differ_in_each_part_of_the_style(names):
    for one, other in combinations(names, 2):
        assert all(mine != others for mine, others in zip(KNOWN[one], KNOWN[other], strict=True)), (one, other)


def luminance(colour):
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_visible_on_white_and_on_black():
    for colour in {colour for colour, _, _ in KNOWN.values()} - {"#000000"}:
        light = luminance(colour) + 0.05
        assert light / 0.05 > 3, colour
        assert 1.05 / light > 3, colour


def test_other_names_get_the_styles_that_are_left():
    names = ["learned", "runs/b", "runs/a", "runs/c"]
    styles = [style_of(name, names) for name in names]
    assert len({tuple(map(str, style.values())) for style in styles}) == 4
    assert style_of("learned") == styles[0]
    assert style_of("runs/b", [*names, "runs/d"]) == styles[1]
    assert style_of("runs/b") == style_of("runs/b") != style_of("runs/e")


def test_all_artists_of_a_curve_have_its_name():
    figure = Figure()
    axes = figure.subplots()
    artists = (*axes.plot([0, 1], label="delta, rate 0.1"), axes.scatter([0], [1]))
    mark(artists, "delta")
    legend = axes.legend()
    legend_entries(legend, ["delta"])
    gids = {artist.get_gid() for artist in (*artists, legend.legend_handles[0], legend.get_texts()[0])}
    assert gids == {"curve:delta"}
