"""The command, as a user runs it, and every study that ships."""

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from benchmarks.studies.declaration import read_study
from benchmarks.studies.evaluation import items
from benchmarks.study import KINDS, main
from metarule import backprop, final_metrics, tune
from metarule.analysis.comparison import LEARNED
from metarule.config.toml import read
from metarule.meta.phases import lifetimes_of
from metarule.prng import Purpose, run_key, stream
from metarule.runs.experiment import with_tasks
from metarule.sweeps.declaration import shorten
from metarule.sweeps.plan import make_plan

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs").glob("study-*.toml"))
NUMBERS = {
    "optimizer.steps": 4,
    "optimizer.batch_size": 4,
    "inner_loop.steps": 20,
    "circuit.hidden": [],
    "evaluation.lifetimes": 16,
    "evaluation.monitor_lifetimes": 4,
}
IRIS = {
    "tasks.kind": "tabular",
    "tasks.dataset": "iris",
    "tasks.test_classes": "all",
    "tasks.train_examples": 7,
    "tasks.test_examples": 5,
}


def small(folder, kind, product=None, cases=(), **fields):
    sweep = {"config": str(ROOT / "configs" / "boolean-2.toml"), "seeds": 2, "set": NUMBERS}
    sweep |= {"product": product or {}, "cases": list(cases), "score": "accuracy"}
    file = folder / f"study-{kind}.toml"
    file.write_text(tomli_w.dumps({"kind": kind, "points": 4, "sweep": sweep} | fields))
    return str(file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was run from start to end."""
    folder = tmp_path_factory.mktemp("studies")
    tests = [{"name": "iris", "set": IRIS}]
    file = small(folder, "comparison", tests=tests, baselines=["backprop"], retuned=["backprop"])
    assert main([file, "--directory", str(folder / "all"), "--json", str(folder / "rows.json")]) == 0
    return Path(file), folder


def rows_of(folder):
    return list(csv.DictReader((folder / "all" / "results.csv").open()))


def test_every_rule_and_baseline_is_evaluated_on_every_test(finished):
    _, folder = finished
    evaluated = {(row["test"], row["contender"], row["seed"]) for row in rows_of(folder)}
    names = ("learned", "backprop", "backprop, tuned here")
    assert evaluated == {("iris", name, seed) for name in names for seed in "01"} | {
        ("sweep", "learned", s) for s in "01"
    }
    rows = json.loads((folder / "rows.json").read_text())
    assert [row["contender"] for row in rows] == list(names)
    assert {"final", "final_low", "final_high", "after_3_each", "steps_to_tuned"} <= set(rows[0])
    assert (folder / "all" / "study.png").stat().st_size > 5000


def test_data_files_are_beside_the_study(tmp_path):
    fields = {"set": {"tasks.data": "own.csv"}}
    study = {"kind": "comparison", "sweep": {"config": "own.toml"} | fields, "tests": [{"name": "own"} | fields]}
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study))
    made = read_study(tmp_path / "study.toml")
    assert made.sweep.set == made.tests[0].set == {"tasks.data": str(tmp_path / "own.csv")}


def test_scores_are_those_of_the_learned_theta_on_the_test_tasks(finished):
    file, folder = finished
    study = read_study(file)
    plan = make_plan(study.sweep, read(Path(study.sweep.config))[1])
    some = items(study, plan, folder / "all" / "sweep")
    (one,) = [one for one in some if (one.contender, one.seed) == (LEARNED, 1)]
    target = with_tasks(plan.settings[0].experiment, list(IRIS.items()))
    key = stream(run_key(1), Purpose.HELD_OUT)
    scores = final_metrics(target.lifetime, one.theta(), target.tasks.split(1).test, key, 16)["accuracy"]
    (value,) = [
        row["value"]
        for row in rows_of(folder)
        if (row["test"], row["contender"], row["seed"], row["metric"]) == ("iris", LEARNED, "1", "accuracy")
    ]
    assert float(value) == pytest.approx(float(np.mean(scores)), rel=1e-6)


def test_baselines_keep_the_rate_of_the_training_tasks_unless_they_are_tuned_here(finished):
    file, folder = finished
    study = read_study(file)
    experiment = make_plan(study.sweep, read(Path(study.sweep.config))[1]).settings[0].experiment
    rates = {
        row["contender"]: float(row["value"])
        for row in rows_of(folder)
        if (row["seed"], row["metric"]) == ("0", "learning_rate")
    }
    for name, one in (("backprop", experiment), ("backprop, tuned here", with_tasks(experiment, list(IRIS.items())))):
        pool, key = one.tasks.split(0).train, stream(run_key(0), Purpose.TUNING)
        assert rates[name] == pytest.approx(tune(backprop(one.lifetime), pool, key, lifetimes_of(one.optimizer)).rate)


def test_finished_items_are_not_evaluated_again(finished, capsys):
    file, folder = finished
    kept = {path: path.stat().st_mtime_ns for path in (folder / "all" / "scores").iterdir()}
    assert len(kept) == 3 * 2
    lost = sorted(kept)[0]
    lost.unlink()
    assert main([str(file), "--directory", str(folder / "all")]) == 0
    again = {path: path.stat().st_mtime_ns for path in (folder / "all" / "scores").iterdir()}
    assert set(again) == set(kept)
    assert [path for path in kept if again[path] != kept[path]] == [lost]
    assert "within a third of the lifetime on " in capsys.readouterr().out


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_planned(path):
    study = read_study(path)
    base = read(path.parent / study.sweep.config)[1]
    for declared, last in ((study.sweep, []), shorten(study.sweep)):
        plan = make_plan(declared, base, last)
        KINDS[study.kind].check(study, plan)
        assert items(study, plan, Path("nowhere")) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "kind = 'other': allowed: comparison, functions, tasks, transfer"),
        ({"baselines": ["sgd"]}, "baselines.0 = 'sgd': allowed: adam, "),
        ({"tests": [{"name": "x", "set": {"tasks.inputs": 0}}]}, "tests.x: tasks.inputs = 0: expected"),
        ({"baselines": []}, "kind = 'comparison': baselines = [], retuned = []: one of them has to name a baseline"),
        ({"kind": "tasks"}, "kind = 'tasks': base config: cases name the rules, and numbers of optimizer.train_tasks"),
        ({"kind": "functions"}, "kind = 'functions': base config: cases are called 'CIRCUIT, RULE'"),
        ({"kind": "transfer"}, "kind = 'transfer': baselines are tuned on the tasks of each test"),
        ({"retuned": ["rescorla_wagner"]}, "retuned: 'rescorla_wagner' cannot be evaluated on "),
        ({"sweep": {"config": "nowhere.toml"}}, "nowhere.toml: No such file"),
        ({"tests": [{"name": "x", "set": {"rule.kind": "mlp"}}]}, "tests.x: rule.kind: θ depends on it"),
    ],
)
def test_bad_input_is_one_line(tmp_path, change, message, capsys):
    file = Path(small(tmp_path, "comparison", baselines=["backprop"]))
    file.write_text(tomli_w.dumps(tomllib.loads(file.read_text()) | change))
    assert main([str(file), "--directory", str(tmp_path / "all")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("benchmarks.study: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not (tmp_path / "all").exists()


def test_a_study_file_comes_first(capsys):
    assert main(["--quick"]) == 2
    assert "a study file comes first" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused(finished, tmp_path, capsys):
    _, folder = finished
    file = small(tmp_path, "comparison", {"optimizer.clip": [0.5]}, baselines=["backprop"])
    assert main([file, "--directory", str(folder / "all")]) == 2
    assert "it holds another sweep" in capsys.readouterr().err
