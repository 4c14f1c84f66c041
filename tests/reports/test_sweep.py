"""Page of a sweep, from made-up results."""

import pytest
from reported import EVIL
from small import EXPERIMENT

from metarule.reports.page import read_page, render
from metarule.runs.experiment import to_tree
from metarule.runs.files import write_json, write_text
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT, SWEEP_FILE


def sweep(path, finished):
    """A sweep of two rates and three seeds, a cell a rate, whose score is a tenth of the seed and half the rate."""
    labels = ("rate = 0.1", EVIL)
    experiment = to_tree(EXPERIMENT)
    settings = [
        {"label": label, "values": {"rate": rate}, "experiment": experiment} for label, rate in zip(labels, (0.1, 0.2))
    ]
    cells = [{"name": f"c{number}", "points": [[number, seed] for seed in range(3)]} for number in range(2)]
    tree = {"axes": ["rate"], "names": {"rate": "rate"}, "score": "solved", "reference": 0}
    path.mkdir()
    write_text(path / SWEEP_FILE, 'config = "x.toml"\n')
    write_json(path / PLAN, tree | {"settings": settings, "cells": cells})
    (path / CELLS).mkdir()
    for number in range(finished):
        folder = path / CELLS / f"c{number}" / DONE
        folder.mkdir(parents=True)
        points = [
            {"setting": number, "seed": seed, "metrics": {"solved": 0.1 * seed + 0.5 * number, "diverged": 0.0}}
            for seed in range(3)
        ]
        write_json(folder / RESULT, {"points": points})
    return path


@pytest.mark.drawn
def test_a_finished_sweep(tmp_path):
    page = read_page([str(sweep(tmp_path / "sweep", 2))])
    assert page.state == "done"
    assert page.lead[1].startswith("Highest held-out solved: 0.6000 [")
    assert page.lead[1].endswith("], interquartile mean over 3 seeds, of the setting " + EVIL + ".")
    assert page.lead[3] == "It was chosen on these scores as the best of 2, which favours it."
    assert page.lead[2] == "Its difference from rate = 0.1, paired over seeds: +0.5000 [–]."
    assert not page.figures[0].note
    first, second = page.sections[0].tables[0].rows
    assert [first[2].text, second[2].text] == ["0.1000", "0.6000"]
    text = render(page)
    assert EVIL not in text
    assert "&lt;script&gt;oops()" in text


def test_an_unfinished_sweep(tmp_path):
    page = read_page([str(sweep(tmp_path / "half", 1))])
    assert page.state == "stopped, 1 of 2 cells"
    assert page.lead[1].startswith("Highest held-out solved: 0.1000 [")
    page = read_page([str(sweep(tmp_path / "none", 0))])
    assert page.lead[-1] == "No cell is finished yet."
    assert "&lt;script&gt;oops()" in render(page)
