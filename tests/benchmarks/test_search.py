"""Tuning of methods, and the table of their race."""

import json
from pathlib import Path

import pytest

from benchmarks import search as program
from benchmarks.search import FAMILIES, choose, main, table, tuned
from metarule.meta.phases import lifetimes_of
from metarule.runs.files import write_json
from metarule.runs.sweep_files import CELLS, PLAN
from metarule.sweeps.declaration import read_sweep
from metarule.sweeps.plan import make_plan

SWEEPS = Path(program.__file__).parent / "sweeps"
SPREAD = "optimizer.spread"
# Case, value of its axis, and of each seed the score on training tasks and the meta-loss.
TRIED = [
    ("gradient, 7 terms", 0.1, [(0.5, 0.3), (0.7, 0.3)]),
    ("gradient, 7 terms", 0.2, [(0.6, 0.2), (0.6, 0.2)]),
    ("random search, 7 terms", 0.1, [(0.4, 0.5), (0.4, 0.5)]),
    ("random search, 7 terms", 0.2, [(None, 0.1), (0.9, 0.1)]),
]


def sweep(directory, tried=TRIED):
    """A sweep over methods that is done, in one cell; held-out scores are those on training tasks less .1."""
    settings = [
        {"label": f"{case}, spread = {value}", "values": {"case": case, SPREAD: value}, "experiment": {}}
        for case, value, _ in tried
    ]
    plan = {"axes": ["case", SPREAD], "names": {SPREAD: "spread"}, "score": "solved", "reference": 0}
    (directory / CELLS / "cell" / "done").mkdir(parents=True, exist_ok=True)
    write_json(directory / PLAN, plan | {"settings": settings, "cells": [{"name": "cell"}]})
    points = []
    for number, (_, _, seeds) in enumerate(tried):
        for seed, (score, loss) in enumerate(seeds):
            held_out = None if score is None else score - 0.1
            metrics = {"solved": held_out, "training_solved": score, "meta_loss": loss}
            points.append({"setting": number, "seed": seed, "metrics": metrics, "curve": [0.1, held_out]})
    result = {"points": points, "marks": [1, 2], "lifetimes": [5, 10], "seconds": {"meta_step": 1.0}}
    write_json(directory / CELLS / "cell" / "done" / "result.json", result)


def test_the_score_on_training_tasks_decides_then_the_meta_loss(tmp_path):
    sweep(tmp_path / "tuning")
    assert choose(tmp_path / "tuning") == {
        "gradient, 7 terms": {SPREAD: 0.2},
        "random search, 7 terms": {SPREAD: 0.1},
    }


@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=pytest.mark.long if family == "conditioning" else ()) for family in FAMILIES]
)
def test_every_method_is_tuned_over_as_many_settings_and_raced_with_other_seeds(family):
    declared, base = read_sweep(SWEEPS / f"search-{family}.toml")
    plan = make_plan(declared, base)
    cases = [setting.values["case"] for setting in plan.settings]
    assert {cases.count(case) for case in cases} == {8}
    assert len(set(cases)) == 15
    assert min(declared.seeds) >= 100
    lifetimes = {}
    for setting in plan.settings:
        method = setting.values["case"].split(",")[0]
        lifetimes.setdefault(method, set()).add(lifetimes_of(setting.experiment.optimizer))
    searches = [costs for method, costs in lifetimes.items() if method != "gradient"]
    assert all(costs == searches[0] and len(costs) == 1 for costs in searches)
    first = {case.name: {field: values[0] for field, values in case.product.items()} for case in declared.cases}
    race = make_plan(tuned(declared, first, seeds=10, curve=24), base)
    assert [setting.values["case"] for setting in race.settings] == list(dict.fromkeys(cases))
    assert {point.seed for cell in race.cells for point in cell.points} == set(range(10))
    assert len(race.cells[0].marks) > 12


@pytest.mark.parametrize("quick", [True, False])
def test_methods_are_tuned_then_raced_and_stand_in_one_table(quick, tmp_path, monkeypatch, capsys):
    ran = []

    def run(directory, tried):
        ran.append(directory.name)
        sweep(directory, tried)
        return 0

    def race(declared, config, directory, flags, again):
        assert (declared.curve, config.resolve().stem) == (24, directory.name)
        assert again.startswith("python -m benchmarks.search ")
        return run(directory, [TRIED[1], TRIED[2]])

    monkeypatch.setattr(program.sweep, "main", lambda words: run(Path(words[2]), TRIED))
    monkeypatch.setattr(program.sweep, "run", race)
    monkeypatch.setattr(program, "_costs", lambda directory: {"gradient, 7 terms": 0.5})
    file = tmp_path / "rows.json"
    assert main(["--directory", str(tmp_path / "s"), "--json", str(file), *(["--quick"] if quick else [])]) == 0
    all_names = [name for family in FAMILIES for name in (f"{family}-tuning", family)]
    assert ran == ([FAMILIES[0]] if quick else all_names)
    rows = json.loads(file.read_text())
    descent, control = rows[:2]
    assert (descent["method"], descent["terms"], descent["lifetimes"], descent["seconds"]) == ("gradient", 7, 5.0, 2.0)
    assert (descent["score"], control["score"]) == (pytest.approx(0.5), pytest.approx(0.3))
    assert (descent["difference"], control["difference"]) == (pytest.approx(0.2), None)
    assert (descent["best_search"], descent["share_of_lifetimes"]) == ("random search", 0.5)
    assert (descent["share_of_seconds"], descent["at_equal_lifetimes"]) == (1, pytest.approx(0.5))
    assert control["at_equal_lifetimes"] < control["score"]  # it had twice as many
    assert (descent["at_equal_seconds"], control["at_equal_seconds"]) == (pytest.approx(0.5), pytest.approx(0.3))
    printed = capsys.readouterr().out
    assert table(rows) in printed
    assert table(rows).splitlines()[0].split() == list(descent)
    assert "boolean, 7 terms: gradient descent reaches the final score of random search with 0.500 of the" in printed


def test_a_score_that_is_not_reached_is_named():
    row = {"family": "boolean", "terms": 7, "best_search": "CMA-ES", "share_of_lifetimes": None}
    assert (
        table([row]).splitlines()[-1] == "boolean, 7 terms: gradient descent does not reach the final score of CMA-ES"
    )


def test_no_race_is_run_where_a_method_could_not_be_tuned(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(program.sweep, "main", lambda words: ran.append(words) or 1)
    assert main(["--directory", str(tmp_path), "--retry"]) == 1
    assert [(Path(words[2]).name, words[-1]) for words in ran] == [("boolean-tuning", "--retry")]


def test_a_sweep_that_is_stopped_ends_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(program.sweep, "main", lambda words: 130)
    assert main(["--directory", str(tmp_path)]) == 130


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "no/such/rows.json"], "--json 'no/such/rows.json': no file can be written there"),
        (["--seeds", "0"], "seeds = 0: expected `int` >= 1"),
        (["--size", "3"], "size = 3: there is no such field; allowed: directory, json, seeds, curve"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err
