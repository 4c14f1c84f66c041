"""The command, as a user runs it, and every study that ships."""

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from benchmarks.plan import hasten, make_plan
from benchmarks.studies.declaration import read_study
from benchmarks.studies.judging import items
from benchmarks.study import KINDS, main
from metarule import artifacts, backprop, final_metrics, tune
from metarule.comparison import LEARNED
from metarule.config import read
from metarule.experiment import posed
from metarule.streams import Purpose, run_key, stream

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs").glob("study-*.toml"))
NUMBERS = {
    "optimizer.steps": 4,
    "optimizer.tasks": 4,
    "inner_loop.presentations": 20,
    "evaluation.lifetimes": 16,
    "evaluation.watched": 4,
}
IRIS = {
    "tasks.kind": "tabular",
    "tasks.dataset": "iris",
    "tasks.test_classes": "all",
    "tasks.presented": 7,
    "tasks.assessed": 5,
}


def small(folder, kind, product=None, cases=(), **fields):
    sweep = {"config": str(ROOT / "configs" / "boolean-2.toml"), "seeds": 2, "set": NUMBERS}
    sweep |= {"product": product or {}, "cases": list(cases), "score": "accuracy"}
    file = folder / f"study-{kind}.toml"
    file.write_text(tomli_w.dumps({"kind": kind, "points": 4, "sweep": sweep} | fields))
    return str(file)


@pytest.fixture(scope="module")
def transferred(tmp_path_factory):
    """A study of two families, run from start to end."""
    folder = tmp_path_factory.mktemp("studies")
    cases = [{"name": "two inputs"}, {"name": "three inputs", "set": {"tasks.inputs": 3}}]
    tests = [{"name": "two inputs"}, {"name": "iris", "set": IRIS}]
    tests[0]["set"] = {"tasks.inputs": 2}
    file = small(folder, "transfer", cases=cases, tests=tests, retuned=["delta"])
    assert main([file, "--directory", str(folder / "all"), "--json", str(folder / "rows.json")]) == 0
    return file, folder


def test_everybody_is_tried_on_every_test(transferred):
    _, folder = transferred
    rows = list(csv.DictReader((folder / "all" / "results.csv").open()))
    tried = {(row["setting"], row["test"], row["contender"], row["seed"]) for row in rows if row["test"] != "sweep"}
    assert len(tried) == 2 * 2 * 2 * 2
    matrix = json.loads((folder / "rows.json").read_text())
    assert [row["learned on"] for row in matrix] == ["two inputs", "three inputs", "delta, tuned here"]
    assert {"iris", "iris_low", "iris_high"} <= set(matrix[0])
    assert (folder / "all" / "study.png").stat().st_size > 5000


def test_scores_are_those_of_the_learned_theta_on_the_test_tasks(transferred):
    file, folder = transferred
    study = read_study(Path(file))
    plan = make_plan(study.sweep, read(Path(study.sweep.config))[1])
    rows = list(csv.DictReader((folder / "all" / "results.csv").open()))
    some = [one for one in items(study, plan, folder / "all" / "sweep") if one.contender == LEARNED]
    (one,) = [one for one in some if (one.setting, one.test, one.seed) == (1, "iris", 1)]
    target = posed(plan.settings[1].experiment, list(IRIS.items()))
    key = stream(run_key(1), Purpose.HELD_OUT)
    scores = final_metrics(target.lifetime, one.theta(), target.tasks.split(1).test, key, 16)["accuracy"]
    (found,) = [
        row["value"]
        for row in rows
        if (row["setting"], row["test"], row["contender"], row["seed"], row["metric"])
        == ("three inputs", "iris", LEARNED, "1", "accuracy")
    ]
    assert float(found) == pytest.approx(float(np.mean(scores)), rel=1e-6)
    left = [
        row["value"] for row in rows if (row["setting"], row["test"], row["seed"]) == ("three inputs", "sweep", "1")
    ]
    assert left


def test_what_is_done_is_not_done_again(transferred, capsys):
    file, folder = transferred
    kept = {path: path.stat().st_mtime_ns for path in (folder / "all" / "tried").iterdir()}
    # Baselines do not depend on the rule: eight looks at learned rules, and four at the delta rule on either test.
    assert len(kept) == 8 + 4
    lost = sorted(kept)[0]
    lost.unlink()
    assert main([file, "--directory", str(folder / "all")]) == 0
    again = {path: path.stat().st_mtime_ns for path in (folder / "all" / "tried").iterdir()}
    assert set(again) == set(kept)
    assert [path for path in kept if again[path] != kept[path]] == [lost]
    assert "learned on" in capsys.readouterr().out


def test_the_gap_against_the_number_of_training_tasks(tmp_path, capsys):
    cases = [{"name": "7 terms"}]
    file = small(tmp_path, "tasks", {"optimizer.train_tasks": [1, 2, 4]}, cases, baselines=["delta"])
    assert main([file, "--directory", str(tmp_path / "all"), "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    assert "7 terms: gap ≈ " in printed
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["training_tasks"] for row in rows] == [1, 2, 4]
    for row in rows:
        assert row["gap"] == pytest.approx(row["new_error"] - row["training_error"], abs=1e-6)
    assert (tmp_path / "all" / "study.png").stat().st_size > 5000


def test_kinds_of_functions(tmp_path, capsys):
    cases = [
        {"name": "one layer, 7 terms", "set": {"circuit.hidden": []}},
        {"name": "hidden layer, 7 terms", "set": {}},
    ]
    product = {"tasks.functions": ["separable", "all"]}
    file = small(tmp_path, "functions", product, cases, baselines=["delta"], reach=0.5)
    assert main([file, "--directory", str(tmp_path / "all"), "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 2 * 2 * 2
    assert {row["rule"] for row in rows} == {"7 terms", "delta"}
    assert all(("trained_on" in row) for row in rows)
    assert "presentations: after which" in capsys.readouterr().out
    assert (tmp_path / "all" / "study.png").stat().st_size > 5000


def test_real_data(tmp_path, capsys):
    tests = [{"name": "own", "set": {}}, {"name": "iris", "set": IRIS}]
    file = small(tmp_path, "data", tests=tests, baselines=["backprop"], retuned=["backprop"])
    assert main([file, "--directory", str(tmp_path / "all"), "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["test"], row["contender"]) for row in rows] == [
        (test, who) for test in ("own", "iris") for who in ("learned", "backprop", "backprop, tuned here")
    ]
    assert rows[4]["of_backprop"] == 1.0
    assert rows[4]["share"] == rows[4]["reached"] / 20 <= 1
    assert "after at most a third of the life on " in capsys.readouterr().out
    study = read_study(Path(file))
    experiment = make_plan(study.sweep, read(Path(study.sweep.config))[1]).settings[0].experiment
    looks = list(csv.DictReader((tmp_path / "all" / "results.csv").open()))
    rates = {
        row["contender"]: float(row["value"])
        for row in looks
        if (row["test"], row["seed"], row["metric"]) == ("iris", "0", "learning_rate")
    }
    for name, one in (("backprop", experiment), ("backprop, tuned here", posed(experiment, list(IRIS.items())))):
        pool, key = one.tasks.split(0).train, stream(run_key(0), Purpose.TUNING)
        assert rates[name] == pytest.approx(tune(backprop(one.lifetime), pool, key, one.optimizer.lifetimes).rate)
    assert (tmp_path / "all" / "study.png").stat().st_size > 5000


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_laid_out(path):
    study = read_study(path)
    base = read(path.parent / study.sweep.config)[1]
    for declared, last in ((study.sweep, []), hasten(study.sweep)):
        plan = make_plan(declared, base, last)
        KINDS[study.kind].check(study, plan)
        assert items(study, plan, Path("nowhere")) == []


def test_the_quick_form_is_quick(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(ROOT / "configs" / "study-boolean.toml"), "--quick"]) == 0
    assert (tmp_path / "runs" / "studies" / "study-boolean-quick" / "study.png").exists()
    assert "functions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "other"}, "kind = 'other': allowed: data, functions, tasks, transfer"),
        ({"baselines": ["sgd"]}, "baselines.0 = 'sgd': allowed: adam, "),
        ({"tests": [{"name": "x", "set": {"tasks.inputs": 0}}]}, "tests.x: tasks.inputs = 0: expected"),
        ({"baselines": ["delta"]}, "kind = 'data': baselines = ['delta']: 'backprop' has to be among them"),
        ({"kind": "tasks"}, "kind = 'tasks': base config: cases name the rules, and numbers of optimizer.train_tasks"),
        ({"kind": "functions"}, "kind = 'functions': base config: cases are called 'CIRCUIT, RULE'"),
        ({"kind": "transfer"}, "kind = 'transfer': baselines are tuned on the tasks of each test"),
        ({"retuned": ["rescorla_wagner"]}, "retuned: 'rescorla_wagner' cannot be tried on "),
        ({"sweep": {"config": "nowhere.toml"}}, "nowhere.toml: No such file"),
        ({"tests": [{"name": "x", "set": {"rule.kind": "mlp"}}]}, "tests.x: rule.kind: a rule is tried as it is"),
    ],
)
def test_bad_input_is_one_line(tmp_path, change, says, capsys):
    file = Path(small(tmp_path, "data", baselines=["backprop"]))
    file.write_text(tomli_w.dumps(tomllib.loads(file.read_text()) | change))
    assert main([str(file), "--directory", str(tmp_path / "all")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("benchmarks.study: ")
    assert errors.count("\n") == 1
    assert says in errors
    assert not (tmp_path / "all").exists()


def test_a_study_file_comes_first(capsys):
    assert main(["--quick"]) == 2
    assert "a study file comes first" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused(transferred, tmp_path, capsys):
    _, folder = transferred
    assert main([small(tmp_path, "data", baselines=["backprop"]), "--directory", str(folder / "all")]) == 2
    assert "it holds another sweep" in capsys.readouterr().err
    assert artifacts.read_json(folder / "all" / "sweep" / "plan.json")
