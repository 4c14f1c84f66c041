"""The benchmark of speed, as a user runs it."""

import json
from pathlib import Path

import pytest

from benchmarks import speed as program
from benchmarks.speed import main
from benchmarks.speeds.problem import Size

pytestmark = pytest.mark.drawn

ROOT = Path(program.__file__).parents[1]
TINY = ["--sizes", "[[2,3,1,12,2]]", "--steps", "[10]", "--lifetimes", "[1,2]", "--hidden", "[]", "--terms", "[3]"]


@pytest.fixture
def measured(monkeypatch):
    """Measurements that were asked for, in order; none is made."""
    done = []

    def compared(size, names, seconds, memory):
        done.append((size.name, len(names), seconds, memory))
        row = {
            "size": size.name,
            "steps": 12,
            "lifetimes": 2,
            "form": "metarule, kernel",
            "ms": 1.0,
            "ratio": None,
        }
        return [row | {"temporary_bytes": 12345, "difference": 1e-7, "note": ""}]

    def compared_experiment(name, experiment, names, seconds):
        return compared(Size(1, 1, 1, 1, 1), names, seconds, name)

    def cost_curve(name, points, seconds):
        done.append((name, points, seconds))
        row = {"axis": name, "item": "lifetime", "microseconds": 1.0, "ratio_to_previous": 1.5, "overhead_ms": None}
        return [row | {"point": point, "work": point, "temporary_bytes": 1000} for point in points]

    def starts(config, trials):
        done.append((config.stem, trials))
        return [{"config": config.stem, "off": 3.0, "cold": 3.5, "warm": 1.0}]

    for fake in (compared, compared_experiment, cost_curve, starts):
        monkeypatch.setattr(program, fake.__name__, fake)
    monkeypatch.chdir(ROOT)
    return done


def test_all_is_measured_once_shown_and_kept(measured, tmp_path, capsys):
    words = [*TINY, "--directory", str(tmp_path / "speed"), "--json", str(tmp_path / "rows.json")]
    assert main(words) == 0
    assert measured == [
        ("2-3-1", len(program.IMPLEMENTATIONS), 10.0, 8 * 2**30),
        ("1-1-1", len(program.IMPLEMENTATIONS), 10.0, "conditioning"),
        ("steps, 2-4-1", (10,), 10.0),
        ("steps, 64-32-10", (10,), 10.0),
        ("steps, 64-32-10, without bound", (10,), 10.0),
        ("lifetimes, 2-4-1", (1, 2), 10.0),
        ("terms, 64-32-10", (3,), 10.0),
        ("boolean", 3),
        ("digits", 3),
    ]
    printed, progress = capsys.readouterr()
    assert progress.splitlines()[0] == "measuring implementations-2-3-1-12-2"
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["table"] for row in rows] == ["implementations"] * 2 + ["costs"] * 6 + ["starts"] * 2
    for text in ("12,345", "1.0e-07", "NOT STRAIGHT: lifetimes, 2-4-1: from 1 to 2", "digits", "speed.png"):
        assert text in printed
    assert (tmp_path / "speed" / "speed.png").stat().st_size > 5000
    measured.clear()
    assert main(words) == 0
    assert measured == []
    assert capsys.readouterr() == (printed, "")


def test_it_goes_on_where_it_was_stopped(measured, tmp_path, monkeypatch, capsys):
    words, unstopped = [*TINY, "--directory", str(tmp_path)], program.cost_curve

    def stopped(name, points, seconds):
        if name.startswith("lifetimes"):
            raise KeyboardInterrupt
        return unstopped(name, points, seconds)

    monkeypatch.setattr(program, "cost_curve", stopped)
    assert main(words) == 130
    assert "stopped at once; tables that are done are kept" in capsys.readouterr().err
    monkeypatch.setattr(program, "cost_curve", unstopped)
    measured.clear()
    assert main(words) == 0
    assert [each[0] for each in measured] == ["lifetimes, 2-4-1", "terms, 64-32-10", "boolean", "digits"]


def test_a_directory_holds_one_set_of_options(measured, tmp_path, capsys):
    words = [*TINY, "--directory", str(tmp_path)]
    assert main(words) == 0
    assert main([*words, "--seconds", "2"]) == 2
    assert "it holds measurements with other seconds" in capsys.readouterr().err


def test_the_quick_form_is_small_and_kept_apart(measured, tmp_path, monkeypatch):
    root = tmp_path / "configs"
    root.mkdir()
    for name in ("boolean", "conditioning"):
        (root / f"{name}.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert main(["--quick"]) == 0
    assert (tmp_path / "runs" / "speed-quick" / "speed.png").exists()
    assert [each[0] for each in measured].count("boolean") == 1
    assert len(measured) == 2 + len(program.AXES) + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "no/such/rows.json"], "--json 'no/such/rows.json': no file can be written there"),
        (["--seconds", "0"], "seconds = 0: expected `float` > 0"),
        (["--sizes", "[[2,3,1,12]]"], "sizes.0 = [2, 3, 1, 12]: expected an array of length 5"),
        (["--sizes", "[[2,3,1,12,0]]"], "expected `int` >= 1"),
        (
            ["--implementations", '["Fortran"]'],
            "implementations: there is no 'Fortran'; allowed: C; C, without bound",
        ),
        (["--terms", "[4]"], "terms.0 = 4: allowed: 3, 9, 27, 81"),
        (["--lifetimes", "[8,1]"], "lifetimes = [8, 1]: expected ascending numbers"),
        (["--configs", '["none.toml"]'], "configs: there is no file 'none.toml'"),
        (["--gradients", '["none.toml"]'], "gradients: there is no file 'none.toml'"),
        (["--size", "3"], "size = 3: there is no such field; allowed: directory, json, sizes"),
        (["table"], "'table' is not expected here"),
    ],
)
def test_bad_options_give_one_line_and_exit_status_2(words, message, measured, tmp_path, capsys):
    assert main([*words, *(["--directory", str(tmp_path)] if words != ["table"] else [])]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("benchmarks.speed: ")
    assert errors.count("\n") == 1
    assert measured == []


@pytest.mark.parametrize("optimizer", ['kind = "genetic"', 'kind = "gradient"\nestimator = { kind = "forward" }'])
def test_a_config_without_gradients_by_reverse_mode_is_refused(optimizer, measured, tmp_path, capsys):
    config = tmp_path / "other.toml"
    config.write_text(f"[optimizer]\n{optimizer}\n")
    assert main(["--gradients", json.dumps([str(config)]), "--directory", str(tmp_path / "speed")]) == 2
    reason = "optimizer: allowed: kind 'gradient' with the estimator 'reverse'"
    assert capsys.readouterr().err == f"benchmarks.speed: gradients: '{config}': {reason}\n"
    assert measured == []


def test_a_directory_that_cannot_be_made_is_refused(measured, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--directory", str(tmp_path / "file" / "speed")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_lists_every_option(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in program.Options.__struct_fields__:
        assert f"--{name}" in printed
