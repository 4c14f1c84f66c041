"""The commands that evaluate and adapt a learned rule, as a user runs them."""

import csv
import dataclasses
import json
import shutil
import signal

import jax
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule import Feedforward, Tabular, final_metrics, learning_curves
from metarule.commands import adapt as adapt_command
from metarule.commands import evaluate as evaluate_command
from metarule.prng import Purpose, run_key, stream
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.experiment import with_tasks
from metarule.runs.finished import load
from metarule.runs.theta_files import load_theta
from metarule.runs.transfer import contenders

pytestmark = pytest.mark.drawn

LIFETIMES = ["--evaluation.lifetimes", "12"]
SMALL = [*LIFETIMES, "--evaluation.points", "2"]
COMMANDS = {"evaluate": evaluate_command.main, "adapt": adapt_command.main}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = replace(
        EXPERIMENT,
        inner_loop=replace(EXPERIMENT.inner_loop, theta="per_projection"),
        run=replace(EXPERIMENT.run, figure_formats=("png", "svg")),
    )
    return finished_run(tmp_path_factory.mktemp("runs") / "a run", experiment)


@pytest.fixture
def own(run, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(run, tmp_path / "run")


def refused(command, words, capsys):
    assert COMMANDS[command]([str(word) for word in words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"metarule {command}: ")
    assert errors.count("\n") == 1
    return errors


def test_held_out_tasks_are_evaluated_with_other_weights(own, capsys):
    assert evaluate_command.main([str(own), *SMALL, "--networks", "3", "--threshold=0.7"]) == 0
    printed = capsys.readouterr().out
    assert "held-out tasks: 12 networks" in printed
    assert "held-out tasks, 4 tasks" in printed
    (folder,) = (own / "evaluations").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    held_out = summary["held_out"]
    assert (held_out["tasks"], held_out["threshold"], held_out["metric"]) == (4, 0.7, "solved")
    experiment = read_experiment(own)
    theta = load_theta(own, experiment.lifetime.init_theta(run_key(3)), {})
    key = jax.random.fold_in(stream(run_key(3), Purpose.EVALUATION), 0)
    pool = experiment.lifetime.tasks.split(3).test
    again = learning_curves(experiment.lifetime, theta, pool, key, 12, (10, 20), 4).metrics["solved"][:, -1]
    assert held_out["learned"]["mean"] == pytest.approx(float(again.mean()))
    assert summary["left_out"] == {}
    assert set(held_out["baselines"]) == {"delta"}
    assert held_out["baselines"]["delta"]["learning_rate"] == 0.2
    with (folder / "tasks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4
    learned = [float(row["solved"]) for row in rows if row["contender"] == "learned"]
    met = np.argsort(pool.members[:4])
    np.testing.assert_allclose(learned, np.asarray(again).reshape(3, 4).mean(axis=0)[met], rtol=1e-5)
    for name in ("performance.png", "performance.svg", "tasks.png", "tasks.svg"):
        assert (folder / "figures" / name).stat().st_size > 5000


def test_the_output_activation_follows_another_family(own, tmp_path, capsys):
    words = ["--tasks.kind", "tabular", "--tasks.dataset", "iris", "--tasks.test_classes", "all"]
    words += ["--tasks.train_examples", "5", "--tasks.test_examples", "5", "--directory", str(tmp_path / "there")]
    assert evaluate_command.main([str(own), *SMALL, *words]) == 0
    printed = capsys.readouterr().out
    assert "another family of tasks" in printed
    for column in ("1 each", "3 each", "5 each", "to 0.9"):
        assert column in printed
    summary = json.loads((tmp_path / "there" / "summary.json").read_text())
    assert summary["experiment"]["circuit"]["output"] == "softmax"
    assert set(summary["held_out"]["learned"]["shots"]) == {"1", "3", "5"}
    assert not (own / "evaluations").exists()


def test_a_rule_is_evaluated_on_own_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "own.csv").write_text("x,y\n" + "".join(f"{row},{'ab'[row % 2]}\n" for row in range(8)))
    tasks = Tabular(dataset="iris", test_classes="all", ways=2, train_examples=2, test_examples=2)
    circuit = Feedforward(hidden=(), output="softmax")
    run = finished_run(tmp_path / "run", replace(EXPERIMENT, tasks=tasks, circuit=circuit))
    monkeypatch.chdir(tmp_path)
    words = ["run", *SMALL, "--evaluation.horizons", "[]", "--tasks.data", "own.csv", "--directory", "there"]
    assert "label = ''" in refused("evaluate", words, capsys)
    assert evaluate_command.main([*words, "--tasks.label", "y"]) == 0
    assert "tasks made of other data" in capsys.readouterr().out
    stored = json.loads((tmp_path / "there" / "summary.json").read_text())["experiment"]["tasks"]
    assert (stored["data"], stored["test_classes"]) == (str(tmp_path / "own.csv"), "all")
    assert load(run).tasks == tasks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks.split_by", "npn"], "some of these tasks may have been trained on"),
        (["--circuit.feedback", "zero"], "held-out tasks: 12 networks"),
    ],
)
def test_the_novelty_of_the_tasks_is_shown(own, words, message, capsys):
    assert evaluate_command.main([str(own), *SMALL, *words]) == 0
    assert message in capsys.readouterr().out


def test_no_task_counts_twice(own, tmp_path, capsys):
    """Of eight held-out functions an interval is over eight tasks, however many lifetimes there are."""
    words = ["--evaluation.lifetimes", "100", "--networks", "2", "--directory", str(tmp_path / "there")]
    assert evaluate_command.main([str(own), *words, "--evaluation.points", "1"]) == 0
    assert "held-out tasks, 8 tasks" in capsys.readouterr().out
    summary = json.loads((tmp_path / "there" / "summary.json").read_text())
    assert (summary["held_out"]["tasks"], summary["held_out"]["lifetimes"]) == (8, 100)


def test_baselines_of_another_circuit_are_left_out_by_name(tmp_path):
    default = replace(EXPERIMENT, evaluation=replace(EXPERIMENT.evaluation, baselines=()))
    run = dataclasses.replace(load(finished_run(tmp_path / "run", default)), rates={"delta": 0.2, "backprop": 0.3})
    compared, left_out = contenders(run, with_tasks(run.config, [("circuit.kind", "recurrent")]))
    assert list(compared) == ["learned", "initial", "delta"]
    np.testing.assert_array_equal(compared["delta"].theta, np.float32([0.2]))
    assert list(left_out) == ["backprop"]
    assert "Feedforward circuit" in left_out["backprop"]


def test_another_draw_has_other_lifetimes(own, tmp_path):
    means = []
    for draw in ("0", "0", "1"):
        place = tmp_path / f"draw-{len(means)}"
        words = ["--draw", draw, "--directory", str(place), *SMALL]
        assert evaluate_command.main([str(own), *words]) == 0
        held_out = json.loads((place / "summary.json").read_text())["held_out"]
        means.append(held_out["learned"]["accuracy"])
    assert means[0] == means[1] != means[2]


def test_starts_are_compared_on_the_same_lifetimes(own, capsys):
    assert adapt_command.main([str(own), *LIFETIMES, "--adaptation.window", "10", "--tasks.kind", "points"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "learned, adapting (rate",
        "learned, frozen",
        "random, adapting (rate",
        "delta, adapting (rate",
        "delta, frozen",
    ):
        assert name in printed
    (folder,) = (own / "adaptations").iterdir()
    found = json.loads((folder / "summary.json").read_text())
    assert (found["tasks"], found["adaptation"]["window"], found["metric"]) == (3, 10, "accuracy")
    experiment = read_experiment(own)
    there = with_tasks(experiment, [("tasks.kind", "points")])
    theta = load_theta(own, experiment.lifetime.init_theta(run_key(3)), {})
    key = jax.random.fold_in(stream(run_key(3), Purpose.EVALUATION), 0)
    frozen = learning_curves(there.lifetime, theta, there.tasks.split(3).test, key, 12, 2, 3).metrics["accuracy"][:, -1]
    assert found["contenders"]["learned, frozen"]["mean"] == pytest.approx(float(frozen.mean()))
    assert "rate" not in found["contenders"]["learned, frozen"]
    assert len(found["contenders"]["learned, adapting"]["scores"]) == 7
    assert (folder / "figures" / "performance.png").stat().st_size > 5000


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--rule.terms", '["seven"]'],
            "rule.terms: θ depends on it; allowed: fields of tasks, circuit,",
        ),
        (["--seed", "4"], "seed = 4: there is no such field; allowed: threshold, networks, draw, directory"),
        (["--tasks.inputs", "0"], "tasks.inputs = 0: expected"),
        (["--tasks.kind", "point"], "tasks.kind = 'point': allowed: boolean, "),
        (
            ["--circuit.hidden", "[4, 4]"],
            "θ was learned in shape [(1, 7)] (per_projection); this circuit needs [(3, 7)]",
        ),
        (["--networks", "5000"], "networks = 5000: allowed: at most evaluation.lifetimes, which is 16"),
        (
            ["--circuit.kind", "conditioning"],
            "3 input and 1 output neurons; these tasks have 2 inputs and 1 outputs",
        ),
        (["extra"], "'extra' is not expected here"),
        (["--evaluation.monitor_every", "5"], "--evaluation.monitor_every: this command does not use it"),
    ],
)
def test_bad_input_is_one_line(run, command, words, message, capsys):
    assert message in refused(command, [run, *words], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_runs_that_cannot_be_read_are_refused(own, tmp_path, command, capsys):
    assert "this is no run directory" in refused(command, [tmp_path / "nowhere"], capsys)
    assert "the directory of a run comes first" in refused(command, ["--threshold", "0.5"], capsys)
    meaning = (own / "theta.json").read_text()
    (own / "theta.json").write_text('{"format": 99}')
    assert "theta.json: this θ has format 99; this version of metarule reads format 3; upgrade" in refused(
        command, [own], capsys
    )
    (own / "theta.json").write_text(meaning)
    (own / "theta.npz").write_bytes(b"PK")
    assert "no θ can be read from it" in refused(command, [own], capsys)
    (own / "summary.json").write_text('{"torn')
    assert "damaged" in refused(command, [own], capsys)
    (own / "summary.json").unlink()
    assert "this run is not finished; go on with: metarule train --resume" in refused(command, [own], capsys)
    (own / "resolved.toml").write_text("format = 2\n[rule]\nkind = 'of tomorrow'")
    assert "resolved.toml: rule.kind = 'of tomorrow'" in refused(command, [own], capsys)


def test_only_tuned_baselines_are_allowed(run, capsys):
    message = refused("evaluate", [run, "--evaluation.baselines", '["oja"]'], capsys)
    assert "rate of 'oja' was not tuned by this run; allowed: delta" in message
    message = refused("adapt", [run, "--evaluation.baselines", '["delta"]'], capsys)
    assert "--evaluation.baselines: this command does not use it" in message


def test_windows_divide_a_lifetime(run, capsys):
    assert "adaptation.window = 7: allowed: divisors of the 20 steps of a lifetime" in refused(
        "adapt", [run, "--adaptation.window", "7"], capsys
    )
    assert "adaptation: name 'sgdd' is no optimiser" in refused("adapt", [run, "--adaptation.name", "sgdd"], capsys)


def test_a_folder_that_is_not_empty_is_refused(run, tmp_path, capsys):
    (tmp_path / "note.txt").write_text("mine")
    message = refused("evaluate", [run, "--directory", tmp_path], capsys)
    assert "it is not empty; choose another" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_a_stopped_command_leaves_no_empty_folder(command, own, tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    for module in (adapt_command, evaluate_command):
        monkeypatch.setattr(module, "_run", stopped)
    assert COMMANDS[command]([str(own), "--directory", str(tmp_path / "found")]) == 130
    assert "stopped at once" in capsys.readouterr().err
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_option(command, capsys):
    assert COMMANDS[command](["--help"]) == 0
    printed = capsys.readouterr().out
    for option in ("--threshold", "--networks", "--draw", "--directory"):
        assert option in printed
    assert ("  adaptation " in printed) == (command == "adapt")
    assert COMMANDS[command](["--help", "adaptation"]) == (0 if command == "adapt" else 2)


def test_overwriting_a_run_removes_its_evaluations(own):
    (own / "evaluations" / "x").mkdir(parents=True)
    start_run(own, EXPERIMENT, None, overwrite=True)
    assert not (own / "evaluations").exists()


def test_final_metrics_do_not_depend_on_the_points_between(run):
    experiment = read_experiment(run)
    theta, pool = experiment.lifetime.init_theta(run_key(3)), experiment.tasks.split(3).test
    ends = learning_curves(experiment.lifetime, theta, pool, run_key(1), 8, (3, 9, 20)).metrics["accuracy"][:, -1]
    np.testing.assert_array_equal(ends, final_metrics(experiment.lifetime, theta, pool, run_key(1), 8)["accuracy"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_theta_of_other_terms_is_refused(own, command, capsys):
    text = (own / "resolved.toml").read_text()
    swapped = '"pre", "1", "potential", "modulator", "pre*modulator", "pre*potential", "pre*weight"'
    (own / "resolved.toml").write_text(text.replace('"seven"', swapped))
    message = refused(command, [own], capsys)
    assert "theta.json: this θ is of another rule: names[0] is 'projection 1: 1' there" in message
    assert "there; the rule needs 'projection 1: pre'" in message


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("command", "target"), [("evaluate", "evaluate.compare"), ("adapt", "adapt._adapt")])
def test_a_command_that_is_stopped_leaves_one_line_and_no_folder(command, target, number, own, capsys, monkeypatch):
    monkeypatch.setattr(f"metarule.commands.{target}", lambda *_: signal.raise_signal(number))
    before = set(own.rglob("*"))
    for words in ([], ["--directory", str(own / "new" / "one")]):
        assert COMMANDS[command]([str(own), *LIFETIMES, *words, "--inner_loop.steps", "20"]) == 128 + number
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"metarule {command}: stopped at once; ")
    assert {file for file in set(own.rglob("*")) - before if file.is_dir()} == set()


@pytest.mark.parametrize("command", ["evaluate", "adapt"])
def test_a_run_of_another_precision_is_refused(command, own, float64, capsys):
    assert "begun in float32, and JAX is set to float64 here; set JAX_ENABLE_X64=0" in refused(command, [own], capsys)
