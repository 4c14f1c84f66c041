"""The benchmark of scaling, as a user runs it."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import scaling as program
from benchmarks.scaling import main

ROOT = Path(program.__file__).parents[1]


@pytest.fixture
def measured(monkeypatch):
    """The set-ups that were timed; nothing is."""
    done = []

    def timed(setups, turns):
        done.extend(setups)
        counts = [setup.processes * setup.devices for setup in setups]
        programs = [{"devices": one, "collectives": int(one > 1), "bytes": 64 * (one > 1)} for one in counts]
        return [one | {"gradient_norm": 0.5, "seconds": [0.002, 0.003]} for one in programs]

    monkeypatch.setattr(program, "timed", timed)
    monkeypatch.chdir(ROOT)
    return done


def test_all_is_measured_once_shown_and_kept(measured, tmp_path, capsys):
    words = ["--quick", "--directory", str(tmp_path / "scaling"), "--json", str(tmp_path / "rows.json")]
    assert main(words) == 0
    assert [setup[:2] for setup in measured] == [(1, 1), (1, 2), (2, 1)]
    printed = capsys.readouterr().out
    for text in ("2 devices", "2 processes"):
        assert text in printed
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["efficiency"] for row in rows] == [1.0, 0.5, 0.5] or len(os.sched_getaffinity(0)) == 1
    measured.clear()
    assert main(words) == 0
    assert measured == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devices", "[2]"], "expected 1 first"),
        (["--config", "SEARCH"], "allowed: gradient"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--turns", "1"], "turns = 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(words, message, measured, tmp_path, capsys):
    search = tmp_path / "search.toml"
    search.write_text('optimizer.kind = "genetic"')
    words = [word.replace("SEARCH", str(search)) for word in words]
    assert main([*words, "--directory", str(tmp_path / "scaling")]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not measured
