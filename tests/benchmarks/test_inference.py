"""The benchmark of inferred rules, as a user runs it, at tiny sizes."""

import json

import numpy as np
import pytest

from benchmarks import inference
from benchmarks.experiments import TESTS, Measure, Setting, oja
from benchmarks.inference import main, measured
from benchmarks.recorded import reinforce


def tiny(*measures):
    """Experiments in which two of the terms of Oja's rule are fitted to a network of two synapses."""
    case = oja(4, steps=15, inputs=2, outputs=1)._replace(terms=("post^2*weight", "pre*post"))
    return Setting(case, (*TESTS["oja"].measures, *measures))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    values = iter([0.5, 0.25])
    over = [
        Measure("share", lambda one: next(values), (0.3, None), "mean"),
        Measure("terms", lambda one: len(one.terms)),
    ]
    return measured("tiny", tiny(*over), 2)


def test_rules_are_found_without_noise(rows):
    assert rows[0]["what"] == "largest error of 27 coefficients / rate, worst"
    assert rows[0]["value"] < 1e-9
    assert rows[0]["target"] == "≤ 0.001"
    assert rows[0]["met"] is True


def test_values_of_seeds_are_summarised(rows):
    share, terms = rows[1:]
    assert (share["value"], share["worst"], share["target"], share["met"]) == (0.375, 0.25, "≥ 0.3", True)
    assert share["sd"] == pytest.approx(0.25 / 2**0.5)
    assert (terms["value"], terms["target"], terms["met"]) == (2, "", None)
    assert {row["seeds"] for row in rows} == {2}
    assert {row["test"] for row in rows} == {"tiny"}


@pytest.mark.long
def test_rows_are_printed_written_and_read_again(tmp_path, monkeypatch, capsys, rows):
    monkeypatch.setattr(inference, "measured", lambda name, test, seeds: rows)
    words = ["--directory", str(tmp_path / "measured"), "--json", str(tmp_path / "rows.json"), "--tests", '["oja"]']
    assert main(words) == 0
    assert "measuring oja" in capsys.readouterr().err
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "largest error of 27 coefficients / rate, worst" in printed.out
    assert "measuring" not in printed.err


def test_unknown_tests_give_one_line_and_exit_status_2(tmp_path, capsys):
    assert main(["--directory", str(tmp_path / "none"), "--tests", '["hebb"]']) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("benchmarks.inference: tests: there is no 'hebb'; allowed: oja, noise")
    assert errors.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_animals_that_learn_by_reinforce_become_better():
    animals = reinforce(rate=0.1, animals=20, steps=400, weight=-2.0)(0)
    rewards = np.stack([animal.rewards for animal in animals])
    assert rewards[:, :50].mean() < 0.4
    assert rewards[:, -50:].mean() > 0.8
    first = animals[0]
    assert np.array_equal(first.rewards, first.choices == (first.inputs[:, 0] > 0))
    assert first.weights[0][0].tolist() == [[-2.0], [0.0]]


@pytest.mark.long
def test_the_quick_form_meets_its_targets(tmp_path):
    file = tmp_path / "rows.json"
    assert main(["--quick", "--directory", str(tmp_path / "measured"), "--json", str(file)]) == 0
    assert all(row["met"] is not False for row in json.loads(file.read_text()))


@pytest.mark.long
@pytest.mark.parametrize("name", ["REINFORCE, fitted weights", "weak inputs", "half observed"])
def test_targets_are_met_in_one_experiment(name):
    assert all(row["met"] is not False for row in measured(name, TESTS[name], 1))
