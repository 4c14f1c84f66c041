"""Table of the seeds of a sweep."""

import json
from pathlib import Path

import pytest

from benchmarks import robustness as program
from benchmarks.robustness import main, robustness
from metarule.runs.files import write_json
from metarule.runs.sweep_files import CELLS, PLAN
from metarule.sweeps.rows import lines_of

SCORES = {"one": [0.97, 0.95, 0.93, None], "two": [0.9, 0.9, 0.9, 0.9]}


def sweep(directory, missing=()):
    """Two settings of four seeds, of 10 meta-steps with 5 lifetimes each; one seed of the first ended with no score."""
    experiment = {"optimizer": {"steps": 10, "batch_size": 5}}
    tree = {"axes": ["case"], "names": {}, "score": "solved", "reference": 0, "cells": []}
    tree["settings"] = [{"label": name, "values": {"case": name}, "experiment": experiment} for name in SCORES]
    for number, (name, scores) in enumerate(SCORES.items()):
        points = [
            {"setting": number, "seed": seed, "metrics": metrics(score, seed)} for seed, score in enumerate(scores)
        ]
        tree["cells"].append({"name": name})
        if name not in missing:
            (directory / CELLS / name / "done").mkdir(parents=True)
            write_json(directory / CELLS / name / "done" / "result.json", {"points": points})
    write_json(directory / PLAN, tree)


def metrics(score, seed):
    diverged = {"nonfinite_lifetimes": 10 * seed, "rejected_steps": seed, "lyapunov_exponent": 1.0 + 0.01 * seed}
    return {"solved": score, "finite": int(score is not None), "meta_loss": score} | diverged


def test_a_row_summarises_the_seeds_of_a_setting(tmp_path):
    sweep(tmp_path / "robustness")
    first, second = robustness(tmp_path / "robustness")
    assert first == {
        "sweep": "robustness",
        "setting": "one",
        "seeds": 4,
        "finite": 3,
        "best": 0.97,
        "worst": 0.93,
        "within_3_points": 2,
        "diverged": 0.3,
        "rejected": 0.15,
        "lyapunov_exponent": pytest.approx(1.015),
    }
    assert (second["finite"], second["within_3_points"]) == (4, 4)


def test_an_unfinished_cell_has_no_row(tmp_path):
    sweep(tmp_path / "robustness", missing=("one",))
    assert [row["setting"] for row in robustness(tmp_path / "robustness")] == ["two"]


@pytest.mark.parametrize("quick", [True, False])
def test_both_sweeps_are_run_and_stand_in_one_table(quick, tmp_path, monkeypatch, capsys):
    ran = []

    def run(words):
        ran.append(Path(words[0]).stem)
        sweep(Path(words[2]))
        return len(ran) - 1  # cells of the second failed

    monkeypatch.setattr(program.sweep, "main", run)
    words = ["--directory", str(tmp_path), "--json", str(tmp_path / "rows.json"), *(["--quick"] if quick else [])]
    assert main(words) == (0 if quick else 1)
    assert ran == (["robustness"] if quick else ["robustness", "ablation"])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["sweep"] for row in rows] == [f"{name}-quick" if quick else name for name in ran for _ in range(2)]
    assert "\n".join(lines_of(rows)) in capsys.readouterr().out


def test_a_sweep_that_is_stopped_ends_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(program.sweep, "main", lambda words: 130)
    assert main(["--directory", str(tmp_path)]) == 130


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "no/such/rows.json"], "--json 'no/such/rows.json': no file can be written there"),
        (["--seeds", "3"], "seeds = 3: there is no such field; allowed: directory, json"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err
