"""Runs with a rule, a circuit and tasks of a user's own package, by all commands."""

import json
import shutil
import sys

import numpy as np
import pytest
from own_package import CIRCUIT, NAME, RULE, SOURCE, TASKS, forget_package, package_on_path, write_package
from small import SIMPLEST, words

import metarule
from metarule.commands import adapt, evaluate, explain, prune, sweep, train

IMPORT = ["--import", NAME]
FIELDS = {"rule.kind": RULE, "circuit.kind": CIRCUIT, "tasks.kind": TASKS, "rule.rate": "0.5"}
SMALL = {name: value for name, value in SIMPLEST.items() if not name.startswith(("rule", "circuit"))}
SMALL |= {"run.loggers": f'["{NAME}.parts:LastLoss"]', "evaluation.baselines": '["delta"]', "run.checkpoint_every": "3"}


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    with package_on_path(tmp_path_factory.mktemp("own")) as folder:
        yield folder


@pytest.fixture(scope="module")
def config(package):
    file = package / "own.toml"
    file.write_text("seed = 2\n")
    return file


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    fields = FIELDS | SMALL | {"run.directory": str(path)}
    assert train.main([str(config), *IMPORT, *words(fields)]) == 0
    return path


@pytest.fixture
def own(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def test_a_run_is_stored_with_import_paths_and_hashes(run):
    text = (run / "resolved.toml").read_text()
    assert all(f'kind = "{kind}"' in text for kind in (RULE, CIRCUIT, TASKS))
    assert list(json.loads((run / "environment.json").read_text())["modules"]) == [NAME, f"{NAME}.parts"]
    summary = json.loads((run / "summary.json").read_text())
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert float((run / "last-loss.txt").read_text()) == last["loss"]
    assert summary["equation"].startswith("Δw = Decaying(decay = ")
    assert {row["term"] for row in summary["contributions"]["terms"]} == {"rate", "decay"}


def test_a_stopped_run_resumes_exactly(config, run, tmp_path, monkeypatch):
    path = tmp_path / "run"
    fields = FIELDS | SMALL | {"run.directory": str(path)}
    writing = metarule.runs.execution.write_results
    monkeypatch.setattr(metarule.runs.execution, "write_results", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert train.main([str(config), *IMPORT, *words(fields)]) == 130
    monkeypatch.setattr(metarule.runs.execution, "write_results", writing)
    (path / "checkpoints" / "6.npz").unlink()
    assert train.main(["--resume", str(path), *IMPORT]) == 0
    with np.load(path / "theta.npz") as resumed, np.load(run / "theta.npz") as whole:
        assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_without_permission_no_module_is_imported(run, capsys):
    forget_package()
    for command in (train.main, evaluate.main, adapt.main, prune.main):
        place = ["--resume", str(run)] if command is train.main else [str(run)]
        assert command(place) == 2
        assert f"add --import {NAME}" in capsys.readouterr().err
    assert NAME not in sys.modules


def test_a_run_is_evaluated_adapted_and_pruned(own, capsys):
    few = ["--evaluation.lifetimes", "8", "--evaluation.points", "2", "--networks", "2"]
    assert evaluate.main([str(own), *IMPORT, *few]) == 0
    assert "held-out tasks, 2 tasks" in capsys.readouterr().out
    other = ["--tasks.kind", "boolean", "--tasks.inputs", "2"]
    assert evaluate.main([str(own), *IMPORT, *few, *other]) == 0
    assert "another family of tasks" in capsys.readouterr().out
    adaptation = ["--evaluation.lifetimes", "4", "--networks", "2", "--adaptation.window", "10"]
    assert adapt.main([str(own), *IMPORT, *adaptation]) == 0
    assert "learned, adapting" in capsys.readouterr().out
    assert prune.main([str(own), *IMPORT, "--lifetimes", "8"]) == 0
    assert "of 2 terms removed" in capsys.readouterr().out
    assert prune.main([str(own), *IMPORT, "--lifetimes", "8", "--terms", "taylor(pre, weight; 1)"]) == 0
    assert "all 4 terms" in capsys.readouterr().out
    assert explain.main([str(own), *IMPORT, "--lifetimes", "8"]) == 0
    assert "left out: shares: rule = Decaying: it is no sum of terms" in capsys.readouterr().out
    assert metarule.load(own).config.rule.rate == 0.5
    assert callable(metarule.load(own).rule.update)


@pytest.mark.long
def test_own_rates_are_swept(config, tmp_path, capsys):
    text = f'config = "{config}"\nseeds = 1\n[set]\n'
    text += "".join(
        f'"{field}" = {value if value[0] in "[0123456789" else repr(value)}\n'
        for field, value in FIELDS.items()
        if field != "rule.rate"
    )
    text += '"optimizer.steps" = 2\n"evaluation.lifetimes" = 8\n[product]\n"rule.rate" = [0.1, 0.2]\n'
    (tmp_path / "rates.toml").write_text(text)
    assert sweep.main([str(tmp_path / "rates.toml"), *IMPORT, "--directory", str(tmp_path / "sweep")]) == 0
    assert "rate = 0.2" in capsys.readouterr().out


def test_a_module_that_changed_is_named_on_resume(own, package, capsys):
    write_package(package, SOURCE + "\n# changed\n")
    (own / "summary.json").unlink()
    assert train.main(["--resume", str(own), *IMPORT]) == 0
    changed = f"module '{NAME}.parts' has changed since the run was started, and with it the results"
    assert changed in capsys.readouterr().err
    assert prune.main([str(own), *IMPORT, "--lifetimes", "4"]) == 0
    assert changed in capsys.readouterr().err
    write_package(package)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--import"], "--import '': allowed: the name of a module, such as my_rules or package.rules"),
        (["--import", "my-rules.py"], "--import 'my-rules.py': allowed: the name of a module"),
        (["--import=own_nowhere", "--rule.kind", "own_nowhere:R"], "module 'own_nowhere' cannot be imported"),
        (["--import=own_nowhere", "--help", "rule"], "module 'own_nowhere' cannot be imported"),
        (["--import", NAME, "--rule.kind", CIRCUIT], "a Rule has init, delta"),
        (["--run.loggers", f"{NAME}.parts:LastLos"], "add --import own_synapses.parts"),
        (["--import", NAME, "--run.loggers", f"{NAME}.parts:LastLos"], "; did you mean 'LastLoss'?"),
        (["--import", NAME, "--run.loggers", RULE], "a Logger has open, log, close"),
    ],
)
def test_bad_imports_are_refused_in_one_line(given, message, config, capsys):
    forget_package()
    assert train.main([str(config), *given]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (
            "Unexamined",
            "lacks examples, metrics; allowed: a family with loss, examples, metrics or start, sense, react, ",
        ),
        ("Unscored", "lacks sense, scores; allowed: a family with loss, examples, metrics or start, sense, react, "),
        ("Keyless", "has react(task, state, output) in place of react(task, state, output, key)"),
        ("Untargeted", "has metrics(output) in place of metrics(output, target)"),
    ],
)
def test_tasks_that_lack_members_of_their_loop_are_refused_before_anything_is_written(
    name, fault, config, tmp_path, capsys
):
    path = tmp_path / "run"
    fields = FIELDS | SMALL | {"run.directory": str(path), "tasks.kind": f"{NAME}.parts:{name}"}
    assert train.main([str(config), *IMPORT, *words(fields)]) == 2
    errors = capsys.readouterr().err
    assert f"tasks: {name} {fault}" in errors
    assert errors.count("\n") == 1
    assert not path.exists()
