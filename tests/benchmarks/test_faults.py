"""The benchmark of faults, as a user runs it; some of what it does is done in tests/test_faults.py."""

import json

import pytest

from benchmarks import faults as program
from benchmarks.disasters import disks, kills, shared
from benchmarks.disasters.runs import Whole
from benchmarks.faults import main


@pytest.fixture
def happened(monkeypatch):
    """What befell runs, in order; nothing does."""
    done = []

    def befall(kind, path, chance):
        path.mkdir()
        done.append((path.name, kind, chance.random()))
        return {"struck": True, "at": 8, "again": len(done) % 3, "seconds": 1.5, "lost": ""}

    def uninterrupted(path, programs):
        path.mkdir(parents=True)
        done.append(path.name)
        return Whole(path, 1.0, 2.0, 3.0)

    monkeypatch.setattr(kills, "kill", lambda kind, path, programs, whole, chance: befall(kind, path, chance))
    monkeypatch.setattr(disks, "fail", lambda kind, path, programs, whole, chance: befall(kind, path, chance))
    monkeypatch.setattr(shared, "kill_one", lambda path, programs, whole, chance: befall(shared.KIND, path, chance))
    monkeypatch.setattr(program, "uninterrupted", uninterrupted)
    monkeypatch.setattr(program, "differences", lambda path, whole: [])
    return done


def test_all_is_tried_once_shown_and_kept(happened, tmp_path, capsys):
    words = ["--directory", str(tmp_path / "faults"), "--json", str(tmp_path / "rows.json")]
    words += ["--kills", "12", "--disks", "2", "--shared", "1"]
    assert main(words) == 0
    assert happened[:2] == ["whole-cold", "whole"]
    assert [kind for _, kind, _ in happened[2:]] == [*kills.KINDS, *kills.KINDS[:2], *disks.KINDS[:2], shared.KIND]
    assert len({chance for _, _, chance in happened[2:]}) == 15
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["kind", "trials", "struck", "again", "seconds", "lost"]
    assert printed.splitlines()[1].split() == ["checkpoint", "3", "3", "1.0,", "2", "1.5", "0"]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 15
    assert list(rows[0]) == ["trial", "kind", "struck", "at", "again", "seconds", "lost"]
    assert not list((tmp_path / "faults").glob("kill-*-s0"))
    happened.clear()
    assert main(words) == 0
    assert happened == []
    assert capsys.readouterr().out == printed


def test_a_directory_of_somebody_else_is_left_alone(happened, tmp_path, capsys):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "thesis.txt").write_text("")
    assert main(["--quick", "--directory", str(tmp_path)]) == 2
    assert "it holds what this command did not make; choose another" in capsys.readouterr().err
    assert happened == []
    assert (tmp_path / "whole" / "thesis.txt").exists()


def test_it_goes_on_where_it_was_stopped_and_with_another_seed_anew(happened, tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    words = ["--directory", str(tmp_path), "--kills", "1", "--disks", "1", "--shared", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(disks, "fail", stopped)
        assert main(words) == 130
    assert "trials that are done are kept" in capsys.readouterr().err
    first = happened[-1]
    happened.clear()
    assert main(words) == 0
    assert [name for name, _, _ in happened] == ["disk-0-s0"]
    happened.clear()
    assert main([*words, "--seed", "1"]) == 0
    assert [name for name, _, _ in happened] == ["kill-0-s1", "disk-0-s1"]
    assert happened[0][2] != first[2]


def test_what_is_lost_is_told_and_kept_and_gives_exit_status_1(happened, tmp_path, monkeypatch, capsys):
    def lose(kind, path, programs, whole, chance):
        path.mkdir()
        return {"struck": True, "at": 8, "again": 0, "seconds": 1.5, "lost": "metrics.jsonl"}

    monkeypatch.setattr(kills, "kill", lose)
    assert main(["--directory", str(tmp_path), "--kills", "1", "--disks", "0", "--shared", "0"]) == 1
    assert "kill-0: checkpoint: lost: metrics.jsonl" in capsys.readouterr().err
    assert (tmp_path / "kill-0-s0").is_dir()


def test_the_quick_form_is_small_and_kept_apart(happened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--quick"]) == 0
    assert (tmp_path / "runs" / "faults-quick" / "whole.json").exists()
    assert len(happened) < 10


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--json", "no/such/rows.json"], "--json 'no/such/rows.json': no file can be written there"),
        (["--kills", "-1"], "kills = -1: expected `int` >= 0"),
        (["--kill", "3"], "kill = 3: there is no such field; allowed: directory, json, seed, kills, shared, disks"),
        (["--directory", "/dev/null/x"], "--directory '/dev/null/x': Not a directory"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, says, happened, capsys):
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert happened == []
