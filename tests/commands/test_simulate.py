"""The command that simulates recordings, as a user runs it."""

import json

import numpy as np
import pytest
from own_package import NAME, RULE, package_on_path

from metarule.commands import simulate

SMALL = ["--simulation.animals", "3", "--simulation.steps", "6"]


def simulated(out, config, *words):
    assert simulate.main([config, "--out", str(out), *SMALL, *words]) == 0
    return {file.name: file.read_bytes() for file in sorted(out.iterdir())}


@pytest.fixture(scope="module")
def oja(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "oja"
    simulated(path, "simulate-oja")
    return path


def shapes(file):
    with np.load(file) as arrays:
        assert {array.dtype.kind for array in arrays.values()} <= {"f", "i"}
        return {name: array.shape for name, array in arrays.items()}


def test_recordings_and_the_truth_are_written(oja):
    assert sorted(file.name for file in oja.iterdir()) == [*(f"animal-{n}.npz" for n in (1, 2, 3)), "truth.json"]
    assert shapes(oja / "animal-1.npz") == {"inputs": (6, 5), "activity": (6, 3), "initial_weights": (5, 3)}
    known = json.loads((oja / "truth.json").read_text())
    assert known["equation"] == "Δw = 0.02·(pre·post − post²·weight)"
    assert known["coefficients"] == {"oja": 0.02}
    assert (known["config"]["simulation"]["animals"], known["config"]["circuit"]["output"]) == (3, "identity")
    assert {"seed", "version"} <= set(known)
    assert [file.name for file in oja.parent.iterdir()] == ["oja"]


@pytest.mark.long
def test_the_summary_names_what_was_recorded_and_the_next_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flies").mkdir()
    simulated(tmp_path / "flies", "simulate-choice", "--simulation.sessions=2", "--out", "flies")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rule: Δw = 1·pre·neuromodulator"
    recorded = "inputs, choices, rewards, plastic, session, weights, initial_weights"
    assert lines[1] == f"3 animals, 6 steps each: {recorded}"
    assert lines[2].startswith("choices: ")
    assert lines[3] == "recordings: flies/animal-1.npz to animal-3.npz   rule: flies/truth.json"
    assert lines[4] == "next: metarule infer CONFIG --tasks.files 'flies/*.npz'"
    assert sorted(shapes("flies/animal-1.npz")) == sorted(recorded.split(", "))


def test_the_same_seed_gives_the_same_files_bit_for_bit(oja, tmp_path):
    files = {file.name: file.read_bytes() for file in oja.iterdir()}
    assert simulated(tmp_path / "again", "simulate-oja") == files
    other = simulated(tmp_path / "other", "simulate-oja", "--seed", "1")
    assert all(other[name] != files[name] for name in files)


@pytest.mark.long
def test_an_own_rule_in_layers_is_simulated_from_the_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ["--import", NAME, "--rule.kind", RULE, "--rule.rate", "0.5", "--circuit.hidden", "[2]"]
    with package_on_path(tmp_path):
        config = tmp_path / "own.toml"
        config.write_text('[circuit]\n[simulation]\nenvironment = "discrimination"\ninputs = 1\noutputs = 1\n')
        assert simulate.main([str(config), *SMALL, *own, "--simulation.record", "weights"]) == 0
    (folder,) = (tmp_path / "runs" / "simulations").iterdir()
    names = ("weights", "weights_1", "initial_weights", "initial_weights_1")
    assert [shapes(folder / "animal-1.npz")[name] for name in names] == [(6, 2, 2), (6, 3, 1), (2, 2), (3, 1)]
    assert json.loads((folder / "truth.json").read_text())["coefficients"] == {"decay": 0.0, "rate": 0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "used"], "out = 'used': it is not empty; choose another"),
        (["--out", "used/file"], "out = 'used/file': File exists"),
        (["--out", "."], "out = '.': allowed: a folder other than the working directory"),
        (["--simulation.missing", "1"], "simulation.missing = 1: expected `float` < 1.0"),
        (["--simulation.step", "1"], "simulation.step = 1: there is no such field; allowed: animals, steps, "),
        (["--tasks.kind", "boolean"], "tasks = {'kind': 'boolean'}: there is no such field; allowed: seed, rule, "),
        (["--rule.initial.oja", "900"], "rule: animal-1 diverged at step "),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    out = [] if "--out" in words else ["--out", "new/folder"]
    assert simulate.main(["simulate-oja", *SMALL, *out, *words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule simulate: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["used", "used/file"]


def test_a_disk_that_fails_leaves_nothing(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(simulate, "write_json", fail)
    assert simulate.main(["simulate-oja", *SMALL, "--out", str(tmp_path / "a" / "b")]) == 1
    assert capsys.readouterr().err == "metarule simulate: No space left on device; nothing was written\n"
    assert list(tmp_path.iterdir()) == []
