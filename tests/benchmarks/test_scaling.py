"""The benchmark of scaling, as a user runs it; what it measures is tried in the tests of its parts."""

import json
from pathlib import Path

import pytest

from benchmarks import scaling as program
from benchmarks.scaling import main
from benchmarks.scalings.setups import Timed

ROOT = Path(program.__file__).parents[1]


@pytest.fixture
def measured(monkeypatch):
    """The set-ups that were timed; nothing is."""
    done = []

    def timed(setups, turns):
        done.extend(setups)
        said = {"kernels": 9, "flops": 1e3, "traffic": 1e3, "steps": 10, "lives": 8, "chunk_size": 8}
        said |= {"gradient_norm": 0.5, "gather_seconds": [1e-5, 1e-3], "gathered": [1024, 4194304]}
        told = [{"devices": (count := one.processes * one.devices), "bytes": 64 * (count > 1)} for one in setups]
        return [Timed(said | own | {"collectives": int(own["devices"] > 1)}, [0.002, 0.003]) for own in told]

    monkeypatch.setattr(program, "timed", timed)
    monkeypatch.chdir(ROOT)
    return done


def test_all_is_measured_once_shown_and_kept(measured, tmp_path, capsys):
    words = ["--quick", "--directory", str(tmp_path / "scaling"), "--json", str(tmp_path / "rows.json")]
    assert main(words) == 0
    assert [(one.processes, one.devices, one.words[1:]) for one in measured] == [
        (1, 1, ()),
        (1, 2, ()),
        (2, 1, ()),
        (1, 1, ("--circuit.hidden", "[8]")),
        (1, 1, ("--circuit.hidden", "[32]")),
        (1, 1, ("--optimizer.batch_size", "16")),
        (1, 1, ("--optimizer.batch_size", "128")),
    ]
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["table"] for row in rows} == {"setups", "model", "predictions"}
    for text in ("2 devices", "2 processes", "fitted", "PREDICTIONS, not measurements", "H100", "scaling.png"):
        assert text in printed
    assert (tmp_path / "scaling" / "scaling.png").stat().st_size > 5000
    measured.clear()
    assert main(words) == 0
    assert measured == []


@pytest.mark.parametrize(
    "words, says",
    [
        (["--devices", "[2]"], "expected 1 first"),
        (["--config", "SEARCH"], "allowed: gradient"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--turns", "1"], "turns = 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(words, says, measured, tmp_path, capsys):
    search = tmp_path / "search.toml"
    search.write_text('optimizer.kind = "genetic"')
    words = [word.replace("SEARCH", str(search)) for word in words]
    assert main([*words, "--directory", str(tmp_path / "scaling")]) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1
    assert not measured
