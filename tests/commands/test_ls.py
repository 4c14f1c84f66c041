"""The command that lists runs, as a user runs it."""

import json

import jax
import pytest
from msgspec.structs import replace
from small import EXPERIMENT, finished_run

from metarule.commands import ls
from metarule.commands.ls import main
from metarule.runs.directory import start_run
from metarule.runs.files import write_json


@pytest.fixture
def runs(tmp_path):
    path = finished_run(tmp_path / "runs" / "boolean" / "2026-01-02T03-04-05-s3")
    write_json(path / "summary.json", {"held_out": {"metric": "solved", "learned": {"mean": 0.75}}})
    several = replace(EXPERIMENT, seeds=2)
    start_run(tmp_path / "runs" / "two", several, None)
    start_run(tmp_path / "runs" / "two" / "s3", EXPERIMENT, None)
    return tmp_path / "runs"


def test_runs_of_the_default_directory_are_listed(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    monkeypatch.setattr(jax, "devices", None)  # no device is started
    assert main([]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "config", "rule", "circuit", "tasks", "seed", "progress", "score", "state"]
    assert {" ".join(line.split()) for line in lines} == {
        "boolean/2026-01-02T03-04-05-s3 boolean polynomial feedforward boolean 3 12/12 steps solved 0.750 done",
        "two - polynomial feedforward boolean 2 seeds 0/24 steps - stopped",
    }


def test_parts_and_rows_as_json(runs, capsys):
    assert main([str(runs), "--all", "--json", str(runs / "rows.json")]) == 0
    rows = {row["name"]: row for row in json.loads((runs / "rows.json").read_text())}
    assert list(rows) == ["boolean/2026-01-02T03-04-05-s3", "two", "two/s3"]
    assert {type(value) for row in rows.values() for value in row.values()} <= {str, int, float, type(None)}
    assert rows["two"]["seeds"] == 2
    assert "two/s3" in capsys.readouterr().out


def test_a_narrow_terminal_shows_no_kinds(runs, monkeypatch, capsys):
    monkeypatch.setattr(ls.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "90")
    assert main([str(runs)]) == 0
    assert "polynomial" not in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "200")
    assert main([str(runs)]) == 0
    assert "polynomial" in capsys.readouterr().out


def test_names_do_not_control_the_terminal(tmp_path, capsys):
    finished_run(tmp_path / "a\x1b[31m\nrun")
    assert main([str(tmp_path)]) == 0
    assert "a\\x1b[31m\\nrun" in capsys.readouterr().out


def test_a_directory_without_runs(tmp_path, monkeypatch, capsys):
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: it holds no runs\n"
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert capsys.readouterr().err == "metarule ls: runs: there is no such directory, or it cannot be read\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--al"], "--al: a value is missing"),
        (["--depth", "3"], "depth = '3': there is no such field; allowed: json"),
        ([".", "other"], "'other' is not expected here"),
        (["--json", "nowhere/rows.json"], "--json 'nowhere/rows.json': no file can be written there"),
    ],
)
def test_bad_input_gives_one_line_and_exit_status_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
