"""The command that infers a rule from recordings, as a user runs it."""

import json
import signal
import zipfile
from shutil import copytree

import numpy as np
import pytest

import metarule
from metarule import Experiment, GaussNewton, InnerLoop, Recordings
from metarule.commands import adapt, evaluate, infer, simulate, train
from metarule.config.toml import ConfigError
from metarule.runs import inference
from metarule.runs.experiment import decode_experiment
from metarule.runs.finished import load
from metarule.runs.listing import list_runs

CONFIG = """\
[rule]
terms = ["taylor(pre, post, weight; 1)"]
hebbian_scale = 0.1
[circuit]
hidden = []
output = "identity"
bias = false
feedback = "zero"
[tasks]
kind = "recordings"
files = "animals/*.npz"
test_animals = 2
[inference]
models = ["hebb"]
bootstrap = 50
"""
RULE = ["--rule.terms", '["pre*post", "weight"]', "--rule.initial", '{ "pre*post" = 0.1, weight = -0.05 }']
KEYS = {
    *("animals", "observations", "coefficients", "selected", "terms", "rule", "equation", "noise", "r2"),
    *("deviance_explained", "held_out", "models", "selection", "identified", "initial_weights", "unknowns", "warnings"),
}
SIZES = {"animals": 8, "steps": 15, "inputs": 3, "outputs": 2, "activity_noise": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config and its recordings, and what was inferred from them: `run`."""
    path = tmp_path_factory.mktemp("inferred")
    sizes = [f"--simulation.{name}={value}" for name, value in SIZES.items()]
    assert simulate.main(["simulate-oja", *RULE, *sizes, "--out", str(path / "animals")]) == 0
    (path / "own.toml").write_text(CONFIG)
    assert inferred(path, "run", "--recover", "2") == 0
    return path


def inferred(path, directory, *words):
    return infer.main([str(path / "own.toml"), "--run.directory", str(path / directory), *words])


def summary_of(path):
    """Summary without what takes time."""
    summary = json.loads((path / "summary.json").read_text())
    assert set(summary.pop("seconds")) >= {"inference", "total"}
    return summary


def edit(path, change):
    """Write the arrays of a file anew, with some of them changed."""
    with np.load(path) as arrays:
        np.savez(path, **change(dict(arrays)))


def listed(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


def test_the_directory_is_that_of_a_run_with_its_own_parts(folder):
    files = listed(folder / "run")
    for name in ("config.toml", "resolved.toml", "metrics.jsonl", "theta.json", "theta.npz", "summary.json"):
        assert name in files
    parts = [name.removeprefix("inference/60/") for name in files if name.startswith("inference/60/")]
    assert parts[:3] == ["recovery-0000.npz", "recovery-0001.npz", "selection-0000.npz"]
    assert all(name.startswith("selection-") for name in parts[2:])
    figures = ("coefficients", "identified", "models", "residuals", "trajectories")
    assert [name for name in files if name.startswith("figures/")] == [f"figures/{name}.png" for name in figures]


def test_the_summary_has_what_was_inferred(folder):
    summary = summary_of(folder / "run")
    assert list(summary) == ["seed", "steps", "theta", "equation", "inference", "held_out"]
    report = summary["inference"]
    assert set(report) == {*KEYS, "recovery"}
    assert set(report["coefficients"]) == set(report["selected"]) == {"pre*post", "weight"}
    for row in report["coefficients"].values():
        assert list(row) == ["estimate", "low", "high", "scale", "bootstrap", "profile"]
    for model in report["models"].values():
        assert {"log_likelihood", "aic", "bic", "difference", "parameters"} < set(model)
    assert list(report["identified"]) == ["directions", "of", "loose", "verdict", "spectrum"]
    assert (report["recovery"]["repetitions"], set(report["recovery"]["terms"])) == (2, set(report["selected"]))
    assert summary["held_out"]["learned"]["mean"] == report["r2"]["activity"]


def test_a_finished_inference_is_loaded_listed_and_printed_again(folder, capsys):
    run = load(folder / "run")
    summary = summary_of(folder / "run")
    np.testing.assert_allclose(run.theta, list(summary["theta"].values()))
    assert run.equation == summary["equation"] == "Δw = −0.0489·weight + 0.0985·pre·post"
    assert run.summary["inference"] == summary["inference"]
    (row,) = list_runs(folder / "run")
    assert (row.tasks, row.metric, row.state) == ("recordings", "R² activity", "done")
    assert row.score == summary["held_out"]["learned"]["mean"]
    capsys.readouterr()
    assert infer.main(["--resume", str(folder / "run")]) == 0
    printed = capsys.readouterr().out
    assert f"\n{run.equation}\n" in printed
    assert "Recovery: 2 simulations with the estimate" in printed


def test_an_evaluation_on_held_out_animals_is_that_of_the_report(folder, tmp_path):
    run = str(folder / "run")
    assert evaluate.main([run, "--directory", str(tmp_path / "held-out")]) == 0
    found = json.loads((tmp_path / "held-out" / "summary.json").read_text())
    models = json.loads((folder / "run" / "summary.json").read_text())["inference"]["models"]
    assert (found["of"], len(found["animals"])) == ("held-out animals", 2)
    for name in ("inferred rule", "fixed weights"):
        assert found["models"][name]["log_likelihood"] == pytest.approx(models[name]["log_likelihood"], rel=1e-5)
        assert found["models"][name]["r2"]["activity"] == pytest.approx(models[name]["r2"]["activity"], rel=1e-5)
    sizes = [f"--simulation.{name}={value}" for name, value in (SIZES | {"animals": 3}).items()]
    assert simulate.main(["simulate-oja", *RULE, *sizes, "--seed", "1", "--out", str(tmp_path / "others")]) == 0
    others = ["--tasks.files", str(tmp_path / "others" / "*.npz"), "--tasks.test_animals", "0"]
    assert evaluate.main([run, *others, "--directory", str(tmp_path / "new")]) == 0
    found = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert (found["of"], len(found["animals"])) == ("animals of other files", 3)
    assert found["models"]["inferred rule"]["r2"]["activity"] > 0.9


def test_an_evaluation_with_animals_that_were_fitted_is_refused(folder, capsys):
    before = listed(folder)
    assert evaluate.main([str(folder / "run"), "--tasks.test_animals", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("tasks.test_animals = 3.0: the rule was inferred otherwise; allowed: 2.0")
    assert listed(folder) == before


def test_recurrent_circuits_have_all_synapses(folder, tmp_path, monkeypatch):
    arrays = dict(np.load(folder / "animals" / "animal-1.npz"))
    for number in range(2):
        np.savez(tmp_path / f"{number}.npz", inputs=arrays["inputs"], activity=arrays["activity"])
    monkeypatch.chdir(tmp_path)
    tree = {"tasks": {"kind": "recordings", "files": "*.npz"}, "rule": {"terms": ["pre*post"]}}
    assert decode_experiment(tree | {"circuit": {"kind": "recurrent"}}).circuit.density == 1
    with pytest.raises(
        ConfigError, match="^circuit.density = 0.5: it removes random synapses; allowed with recordings: 1"
    ):
        decode_experiment(tree | {"circuit": {"kind": "recurrent", "density": 0.5}})


@pytest.mark.parametrize("parts", [pytest.param(0, marks=pytest.mark.long), 3, pytest.param(6, marks=pytest.mark.long)])
def test_an_inference_that_was_stopped_goes_on_and_gives_the_same_bits(parts, folder, tmp_path, monkeypatch, capsys):
    written, whole_file = [], inference.whole_file

    def stopping(file):
        written.append(file)
        if len(written) > parts:
            signal.raise_signal(signal.SIGTERM)
        return whole_file(file)

    monkeypatch.setattr(inference, "whole_file", stopping)
    assert inferred(folder, tmp_path / "again", "--recover", "2") == 128 + signal.SIGTERM
    assert f"go on with: metarule infer --resume {tmp_path / 'again'}" in capsys.readouterr().err
    assert len(list((tmp_path / "again" / "inference" / "60").iterdir())) == parts + 1
    with pytest.raises(ConfigError, match="this run is not finished; go on with: metarule infer --resume"):
        load(tmp_path / "again")
    monkeypatch.undo()
    assert infer.main(["--resume", str(tmp_path / "again")]) == 0
    assert summary_of(tmp_path / "again") == summary_of(folder / "run")
    theta = (folder / "run" / "theta.npz").read_bytes()
    assert (tmp_path / "again" / "theta.npz").read_bytes() == theta


@pytest.mark.long
def test_an_experiment_of_a_program_is_run_as_by_the_command(folder, tmp_path):
    experiment = load(folder / "run").config
    again = Experiment(
        rule=experiment.rule,
        circuit=experiment.circuit,
        tasks=Recordings(files=str(folder / "animals" / "*.npz"), test_animals=2),
        inner_loop=InnerLoop(steps=15, weight_bound=1e9, online_loss_weight=1.0),
        optimizer=GaussNewton(),
        inference=experiment.inference,
    )
    run = metarule.run(again, tmp_path / "run", progress=False)
    np.testing.assert_array_equal(run.theta, load(folder / "run").theta)


def test_recordings_that_have_changed_since_are_refused(folder, tmp_path, capsys):
    copytree(folder / "animals", tmp_path / "animals")
    copytree(folder / "run", tmp_path / "run")
    resolved = tmp_path / "run" / "resolved.toml"
    resolved.write_text(resolved.read_text().replace(str(folder / "animals"), str(tmp_path / "animals")))
    (tmp_path / "run" / "summary.json").unlink()
    edit(tmp_path / "animals" / "animal-3.npz", lambda arrays: arrays | {"activity": arrays["activity"] + 1})
    before = listed(tmp_path)
    assert infer.main(["--resume", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert "they have changed since the run was started; put them back\n" in errors
    assert errors.count("\n") == 1
    assert listed(tmp_path) == before


@pytest.mark.long
def test_a_damaged_part_is_named(folder, tmp_path, capsys):
    copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "inference" / "60" / "selection-0001.npz").write_bytes(b"PK")
    assert infer.main(["--resume", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "selection-0001.npz: damaged: " in line
    assert line.endswith("; remove it, and resume")
    assert inferred(folder, tmp_path / "run", "--overwrite") == 0  # which recalls nothing of the earlier run
    assert summary_of(tmp_path / "run")["theta"] == summary_of(folder / "run")["theta"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks.files", "none/*.npz"], "tasks: files = 'none/*.npz': no file matches"),
        (["--seeds", "2"], "seeds = 2: allowed with recordings: 1"),
        (["--evaluation.lifetimes", "64"], "evaluation: recordings are evaluated as [inference] says; allowed: the "),
        (["--inner_loop.online_loss_weight", "0.5"], "inner_loop.online_loss_weight = 0.5: allowed with recordings: 1"),
        (["--inner_loop.bfloat16", "true"], "inner_loop.bfloat16 = true: allowed with recordings: false"),
        (["--inner_loop.steps", "16"], "inner_loop.steps = 16: the longest recording has 15 steps"),
        (["--optimizer.kind", "gradient", "--tasks.initial", "fitted"], "tasks.initial: it is to be fitted, which "),
        (["--rule.terms", '["pre*modulator"]'], "rule: it reads the modulator, which is target − output; neither "),
        (["--rule.terms", '["pre*neuromodulator"]'], "rule: it reads the neuromodulator, which is the reward; no "),
        (["--circuit.bias", "true"], "initial_weights of projection 0 are 3 × 2 in the recordings, and 4 × 2 in the "),
        (["--circuit.hidden", "[4]"], "initial_weights of projection 0 are 3 × 2 in the recordings, and 3 × 4 in the "),
        (["--tasks.test_animals", "8"], "test_animals = 8; allowed: a share below 1, or a number below 8, the animals"),
        (["--inference.models", '["sgd"]'], "models: 'sgd' is no rule by name; allowed: hebb, anti_hebb, "),
        (["--inference.recover", "-1"], "inference.recover = -1: "),
        (["--recover=-1"], "inference.recover = -1: "),
        (["--recover", "-1"], "inference.recover = -1: "),
        (["--recover", "few"], "'few' is not expected here"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(words, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert inferred(folder, tmp_path / "new" / "run", *words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule infer: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def claimed(path):
    """Write a file whose header claims many steps."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("inputs.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 3)})


def trial(**arrays):
    """Writer of a file of one animal."""
    return lambda path: np.savez(path, **{"inputs": np.ones((4, 3))} | arrays)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("inputs, activity"), "animal.npz, "),
        (trial(activity=np.array([[{}, 1.0]] * 4)), "array 'activity' holds object; allowed: real numbers"),
        (claimed, "animal.npz, "),
        (trial(choices=np.array([0, 1, 2, 1])), "array 'choices': 2 at step 2 (from 0); allowed: 0, 1 or NaN"),
        (trial(activity=np.array([[1.0, np.nan]] * 4)), "neuron 1 (from 0) was never observed in any animal"),
        (trial(activity=np.ones((4, 2)), rewards=np.ones(4)), "array 'rewards' has no meaning without array 'choices'"),
        (trial(activity=np.ones((5, 2))), "array 'activity' has 5 steps, array 'inputs' has 4; allowed: the same"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(write, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "animal.npz")
    assert inferred(folder, tmp_path / "new" / "run", "--tasks.files", "animal.npz", "--tasks.test_animals", "0") == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"metarule infer: {folder / 'own.toml'}: tasks")
    assert message in errors
    assert errors.count("\n") == 1
    assert listed(tmp_path) == ["animal.npz"]


def test_each_command_has_its_tasks(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, run, use = str(folder / "own.toml"), str(folder / "run"), "; use: metarule"
    for command, words, message in (
        (train, [config], f"train: tasks.kind: these tasks are recordings{use} infer"),
        (train, ["--resume", run], f"train: tasks.kind: these tasks are recordings{use} infer"),
        (infer, ["boolean-2"], f"infer: tasks.kind: these tasks are no recordings{use} train"),
        (adapt, [run], f"adapt: tasks.kind: these tasks are recordings, to which nothing adapts{use} infer"),
        (
            train,
            ["boolean-2", "--inference.bootstrap", "5"],
            "inference: these tasks are no recordings; allowed: ",
        ),
        (infer, ["--recover"], "a config file comes first, or --resume; see --help"),
    ):
        assert command.main(words) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("metarule ")
        assert message in errors
        assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_recover_is_a_field_with_a_default():
    assert infer._with_recovery(["a", "--recover"]) == ["a", "--inference.recover", "20"]
    assert infer._with_recovery(["a", "--recover", "3", "-b"]) == ["a", "--inference.recover", "3", "-b"]
    assert infer._with_recovery(["--recover=7", "a"]) == ["--inference.recover", "7", "a"]
    assert infer._with_recovery(["a", "--recover", "--b", "4"]) == ["a", "--inference.recover", "20", "--b", "4"]
