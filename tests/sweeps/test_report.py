"""Tables and figures of the results of cells."""

import csv
import json

import numpy as np
import pytest
from inking import inked

from metarule.config.toml import ConfigError
from metarule.runs.files import write_json
from metarule.runs.sweep_files import CELLS, PLAN
from metarule.sweeps.report import best_member, draw_sweep, interquartile, make_report, table

pytestmark = pytest.mark.drawn

RATES = (0.001, 0.01)


def sweep(path, settings, missing=()):
    """A sweep of four seeds whose score is a tenth of the seed, and half as much more with each setting."""
    tree = {"axes": list(settings[0]), "score": "solved", "reference": 0, "cells": []}
    tree["names"] = {axis: axis for axis in settings[0]}
    tree["settings"] = [{"label": f"setting {number}", "values": values} for number, values in enumerate(settings)]
    for number in range(len(settings)):
        points = [{"setting": number, "seed": seed, "metrics": score(number, seed)} for seed in range(4)]
        tree["cells"].append({"name": f"{number}"})
        if number not in missing:
            (path / CELLS / str(number) / "done").mkdir(parents=True)
            write_json(path / CELLS / str(number) / "done" / "result.json", {"points": points})
    write_json(path / PLAN, tree)
    return path


def score(number, seed):
    return {"solved": 0.1 * seed + 0.5 * number, "meta_loss": None if seed == 3 else 1.0}


def test_the_interquartile_mean_leaves_out_the_outer_quarters():
    middle = interquartile(np.array([0.0, 1.0, 2.0, 100.0]))
    assert middle.mean == 1.5
    assert middle.low <= 1.5 <= middle.high
    assert np.isnan(interquartile(np.ones(5)).low)
    assert interquartile(np.array([0.3])).mean == pytest.approx(0.3)


def test_the_long_table_has_a_row_for_each_seed_and_metric(tmp_path):
    made = make_report(sweep(tmp_path, [{"rate": rate} for rate in RATES]))
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(made.rows) == 2 * 4 * 2
    wanted = {"cell": "1", "setting": "setting 1", "rate": "0.01", "seed": "2", "metric": "solved", "value": "0.7"}
    assert wanted in rows


def test_differences_are_paired_by_seed(tmp_path):
    made = make_report(sweep(tmp_path, [{"rate": rate} for rate in RATES]))
    first, second = (row for row in made.summary if row["metric"] == "solved")
    assert (first["iqm"], first["seeds"], first["paired"]) == (pytest.approx(0.15), 4, 0)
    # Seeds differ by far more than settings do, and the same for both.
    assert second["difference"] == pytest.approx(0.5)
    assert np.isnan([second["difference_low"], second["difference_high"]]).all()
    assert second["high"] - second["low"] > 0.05
    assert "+0.5000" in table(made).splitlines()[-1]


def test_values_that_are_not_finite_are_left_out_and_counted(tmp_path):
    made = make_report(sweep(tmp_path, [{"rate": rate} for rate in RATES]))
    assert [row["seeds"] for row in made.summary if row["metric"] == "meta_loss"] == [3, 3]


def test_a_report_of_half_a_sweep_uses_its_finished_cells(tmp_path):
    made = make_report(sweep(tmp_path, [{"rate": rate} for rate in RATES], missing=(0,)))
    assert [row["setting"] for row in made.summary] == ["setting 1"] * 2
    assert made.summary[0]["paired"] == 0
    assert table(made).splitlines()[-1] == "1 of 2 cells are finished"


def test_a_score_that_is_never_finite_leaves_a_table_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.score", lambda number, seed: {"solved": None, "nonfinite_lifetimes": 64})
    for name, settings in (("axis", [{"rate": rate} for rate in RATES]), ("cases", [{"case": "one"}])):
        made = make_report(sweep(tmp_path / name, settings))
        assert {row["metric"] for row in made.summary} == {"nonfinite_lifetimes"}
        assert len(table(made).splitlines()) == 2
        assert inked(tmp_path / name / "sweep.png")


@pytest.mark.parametrize(
    "settings",
    [
        [{"rate": rate} for rate in RATES],
        [{"case": case, "rate": rate} for case in ("one", "two") for rate in RATES],
        [{"case": "one"}, {"case": "two"}],
        [{"rate": 1.0}],
        [{}],
    ],
    ids=["an axis", "an axis and cases", "cases", "one value", "nothing"],
)
def test_a_figure_is_drawn(settings, tmp_path):
    make_report(sweep(tmp_path, settings))
    assert inked(tmp_path / "sweep.png")


def test_the_figure_has_the_formats_of_the_base_config(tmp_path):
    plan = json.loads((sweep(tmp_path, [{"rate": rate} for rate in RATES]) / PLAN).read_text())
    plan["settings"][0]["experiment"] = {"run": {"figure_formats": ["svg", "pdf"]}}
    write_json(tmp_path / PLAN, plan)
    assert make_report(tmp_path).figure == "sweep.svg"
    assert {file.suffix for file in tmp_path.glob("sweep.*")} == {".svg", ".pdf"}
    assert "4 seeds a setting, 2 of 2 cells" in (tmp_path / "sweep.svg").read_text()


def test_rows_of_settings_are_in_order_of_the_score(tmp_path):
    settings = [{"case": name} for name in ("one", "two", "three")]
    plan = json.loads((sweep(tmp_path, settings) / PLAN).read_text())
    (axes,) = draw_sweep.__wrapped__(plan, make_report(tmp_path), "a sweep").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["setting 2", "setting 1", "setting 0"]


def test_a_directory_without_a_sweep_or_a_finished_cell_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="this is no sweep"):
        make_report(tmp_path)
    with pytest.raises(ConfigError, match="no cell of this sweep is finished"):
        make_report(sweep(tmp_path, [{"rate": 0.1}], missing=(0,)))


def test_the_best_member_is_that_of_the_best_score_on_training_tasks(tmp_path, monkeypatch):
    made = make_report(sweep(tmp_path / "old", [{"rate": 0.1}]))
    assert best_member(tmp_path / "old", made) is None
    training = [[0.1, 0.9, None, 0.3], [0.2, 0.4, 0.5, 0.6]]
    both = lambda number, seed: {"training_solved": training[number][seed], "solved": 0.1 * seed + 0.5 * number}
    monkeypatch.setattr(f"{__name__}.score", both)
    made = make_report(sweep(tmp_path / "new", [{"rate": rate} for rate in RATES]))
    assert best_member(tmp_path / "new", made) is None  # as its cell holds no members
    place = tmp_path / "new" / CELLS / "0" / "done" / "0-setting-0-s1"
    place.mkdir()
    description = "setting 0, seed 1 (solved 0.1000 on held-out tasks)"
    assert best_member(tmp_path / "new", made) == (description, place)
