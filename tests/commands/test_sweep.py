"""The command, as a user runs it."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
from msgspec.structs import replace
from small import EXPERIMENT

from metarule.commands import sweep
from metarule.commands.sweep import main
from metarule.runs.finished import load
from metarule.runs.sweep_files import CELL_LOCK
from metarule.sweeps import time_saved
from metarule.sweeps.plan import Cell, Point

ROOT = Path(__file__).parents[2]
RATE = "optimizer.learning_rate.arguments.init_value"


def small(folder, **fields):
    """Four cells of two points, of few meta-steps; most of the time goes into one compilation."""
    numbers = {"optimizer.steps": 8, "optimizer.batch_size": 4, "inner_loop.steps": 20, "evaluation.lifetimes": 16}
    numbers |= {"run.steps_per_call": 2, "run.checkpoint_every": 4}
    declared = {"config": str(ROOT / "configs" / "boolean-2.toml"), "seeds": 2, "cell": 2, "set": numbers}
    folder.mkdir(exist_ok=True)
    file = folder / "small.toml"
    file.write_text(tomli_w.dumps(declared | {"product": {RATE: [1e-3, 3e-3, 1e-2, 3e-2]}} | fields))
    return str(file)


def cells(directory):
    return sorted((directory / "cells").iterdir())


def start(file, directory):
    words = [sys.executable, "-m", "metarule", "sweep", file, "--directory", str(directory)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep that one process ran from start to end."""
    folder = tmp_path_factory.mktemp("sweeps")
    file, directory = small(folder), folder / "finished"
    assert main([file, "--directory", str(directory), "--json", str(folder / "rows.json")]) == 0
    return file, directory


def test_a_sweep_leaves_tables_a_figure_and_whole_cells(finished):
    _, directory = finished
    left = {file.name for file in directory.iterdir()}
    assert left == {"environment.json", "plan.json", "sweep.toml", "cells", "results.csv", "summary.csv", "sweep.png"}
    assert len(cells(directory)) == 4
    rows = json.loads((directory.parent / "rows.json").read_text())
    assert [row["seeds"] for row in rows if row["metric"] == "solved"] == [2] * 4
    assert list(rows[0]) == (directory / "summary.csv").read_text().splitlines()[0].split(",")


def test_what_is_done_is_skipped_and_reported_again(finished, capsys, monkeypatch):
    file, directory = finished
    monkeypatch.setattr(sweep, "run_cell", None)
    before = (directory / "results.csv").read_bytes()
    (directory / "sweep.png").unlink()
    assert main([file, "--directory", str(directory)]) == 0
    assert (directory / "sweep.png").exists()
    (directory / "results.csv").unlink()
    assert main(["--report", str(directory)]) == 0
    assert (directory / "results.csv").read_bytes() == before
    printed = capsys.readouterr().out
    assert "interquartile mean over seeds" in printed
    member = Path(printed.splitlines()[-1].partition("go on with: metarule evaluate ")[2])
    assert load(member).directory == member


def test_a_sweep_goes_on_in_its_own_precision_alone(finished, float64, capsys):
    file, directory = finished
    assert main([file, "--directory", str(directory)]) == 2
    assert "begun in float32, and JAX is set to float64 here; set JAX_ENABLE_X64=0" in capsys.readouterr().err


def test_devices_in_the_config_of_a_sweep_are_not_dropped_in_silence(tmp_path, capsys):
    config = tmp_path / "config.toml"
    config.write_text((ROOT / "configs" / "boolean-2.toml").read_text() + "\n[devices]\nuse = 1\n")
    assert main([small(tmp_path, config=str(config)), "--directory", str(tmp_path / "out")]) == 2
    assert "devices = {'use': 1}: there is no such field" in capsys.readouterr().err


def test_a_failing_cell_is_recorded_and_the_others_are_run(finished, tmp_path, capsys, monkeypatch):
    file, directory = small(tmp_path), tmp_path / "out"
    run_cell = sweep.run_cell

    def fail(cell, *rest):
        if cell.name.startswith("001"):
            raise RuntimeError("out of luck\nand more")
        return run_cell(cell, *rest)

    monkeypatch.setattr(sweep, "run_cell", fail)
    assert main([file, "--directory", str(directory)]) == 1
    printed = capsys.readouterr()
    assert "RuntimeError: out of luck" in printed.err
    assert "1 of 4 cells failed; --retry runs them again" in printed.err
    assert [(cell / "done").exists() for cell in cells(directory)] == [True, False, True, True]
    monkeypatch.setattr(sweep, "run_cell", run_cell)
    assert main([file, "--directory", str(directory)]) == 1
    assert main([file, "--directory", str(directory), "--retry"]) == 0
    assert (directory / "results.csv").read_bytes() == (finished[1] / "results.csv").read_bytes()


def test_a_failure_that_cannot_be_recorded_ends_in_one_line(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep, "run_cell", full)
    monkeypatch.setattr(sweep, "write_json", full)
    assert main([small(tmp_path), "--directory", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "OSError: [Errno 28] No space left on device; this cannot be recorded: No space left on device" in error


def test_a_dry_run_shows_the_plan_and_the_time_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "measure", lambda cell: (10.0, 1e-3))
    assert main([small(tmp_path), "--directory", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "4 settings, 8 points, 4 cells" in printed
    assert f"data: seed, {RATE}" in printed
    # 10 s to compile, and 8 points × 8 meta-steps × 4 lifetimes × 20 steps at 1 ms.
    assert "about 15 s in one process" in printed
    assert not (tmp_path / "out").exists()


def test_a_quick_run_is_small_and_kept_apart(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "measure", lambda cell: (10.0, 1e-3))
    assert main([small(tmp_path), "--quick", "--dry-run"]) == 0
    assert "2 settings, 4 points, 2 cells in runs/sweeps/small-quick" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "words", "message"),
    [
        ({"product": {"rule.hiden": [1]}}, [], "small.toml: hiden = 1: rule.hiden = 1: there is no such field"),
        ({"product": {RATE: []}}, [], f"small.toml: product.{RATE} = []: an axis needs at least one value"),
        ({}, ["--compare", "-1"], "compare = -1: expected `int` >= 0"),
        ({}, ["--hurry", "1"], "hurry = 1: there is no such field; allowed: directory, json, compare"),
        ({}, ["--directory", "README.md/x"], "--directory 'README.md/x': Not a directory"),
        ({}, ["--json"], "--json: a value is missing"),
        ({}, ["--json", "nowhere/rows.json"], "--json 'nowhere/rows.json': no file can be written there"),
    ],
)
def test_bad_input_gives_one_line_and_exit_status_2(fields, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main([small(tmp_path, **fields), *words]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("metarule sweep: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_directory_of_another_sweep_is_refused(finished, tmp_path, capsys):
    assert main([small(tmp_path, seeds=3), "--directory", str(finished[1])]) == 2
    assert "it holds another sweep" in capsys.readouterr().err
    assert len(cells(finished[1])) == 4
    assert main(["--report", str(tmp_path)]) == 2
    assert main(["--directory", "x"]) == 2


def test_the_time_that_a_sweep_saves_is_measured(tmp_path, capsys, monkeypatch):
    def here(words, directory):
        """Run in this process; a single point takes ten times its share of the sweep."""
        assert main([*words, "--directory", str(directory), "--no-report"]) == 0
        return 8.0 if directory == tmp_path / "out" else 10.0

    monkeypatch.setattr(time_saved, "_run", here)
    words = [small(tmp_path), "--directory", str(tmp_path / "out"), "--compare", "1"]
    assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    together, single = json.loads((tmp_path / "rows.json").read_text())
    assert (together["points"], together["seconds"], together["share"]) == (8, 8.0, 0.1)
    assert (single["points"], single["measured"], single["seconds"], single["share"]) == (8, 1, 80.0, 1.0)
    assert 0 <= together["largest_difference_of_theta"] < 1e-5
    assert "one after another" in capsys.readouterr().out
    assert main(words) == 2
    assert "finished cells are not run again" in capsys.readouterr().err


def test_help_lists_options_and_fields_of_a_sweep(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for words in ("--compare", "--dry-run", "--quick", "product", "zip", "cases"):
        assert words in printed


@pytest.mark.parametrize("trial", [0, *(pytest.param(trial, marks=pytest.mark.long) for trial in range(1, 20))])
def test_two_processes_finish_every_cell_once_when_one_of_them_is_killed(trial, finished, tmp_path):
    drawn = random.Random(trial)
    workers = [start(finished[0], tmp_path) for _ in range(2)]
    # Some trials kill while compiling, others in the middle of a cell or between cells.
    deadline = time.monotonic() + 120
    while drawn.random() < 0.75 and not list(tmp_path.glob("cells/*/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(drawn.uniform(0, 1.5))
    workers[trial % 2].send_signal(signal.SIGKILL)
    printed = [worker.communicate(timeout=300) for worker in workers]
    survivor = workers[1 - trial % 2]
    assert survivor.returncode == 0, printed[1 - trial % 2]
    done = [line for out, _ in printed for line in out.splitlines() if ": done in " in line]
    assert len({line.split(":")[0] for line in done}) == len(done)
    assert len(cells(tmp_path)) == 4
    for cell in cells(tmp_path):
        names = {file.name for file in cell.iterdir() if not file.name.startswith("work-")}
        assert names == {"done", "environment.json", CELL_LOCK}
    assert (tmp_path / "results.csv").read_text() == (finished[1] / "results.csv").read_text()


def test_programs_are_forgotten_before_there_are_too_many(monkeypatch):
    cleared = []
    monkeypatch.setattr(sweep.jax, "clear_caches", lambda: cleared.append(True))
    one = Cell("000-cell", EXPERIMENT, (), (Point(0, 0),), ((),))
    programs = set()
    for number in range(12):
        sweep._make_room(programs, one._replace(experiment=replace(EXPERIMENT, seeds=1 + number // 2)))
    assert len(cleared) == 1
    for _ in range(20):
        sweep._make_room(programs, one)
    assert len(cleared) == 1
