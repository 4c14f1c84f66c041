"""The command, as a user runs it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomli_w

from metarule.commands import sweep
from metarule.commands.sweep import main
from metarule.runs.finished import load
from metarule.runs.sweep_files import CELL_LOCK
from metarule.sweeps import time_saved, work
from metarule.sweeps.cluster import Workers

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
    inputs, results = {"environment.json", "plan.json", "sweep.toml", "cells"}, {"results.csv", "summary.csv"}
    assert left == inputs | results | {"sweep.png", "report.html"}
    assert len(cells(directory)) == 4
    rows = json.loads((directory.parent / "rows.json").read_text())
    assert [row["seeds"] for row in rows if row["metric"] == "solved"] == [2] * 4
    assert list(rows[0]) == (directory / "summary.csv").read_text().splitlines()[0].split(",")


def test_what_is_done_is_skipped_and_reported_again(finished, capsys, monkeypatch):
    file, directory = finished
    monkeypatch.setattr(work, "run_cell", None)
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
    run_cell = work.run_cell

    def fail(cell, *rest):
        if cell.name.startswith("001"):
            raise RuntimeError("out of luck\nand more")
        return run_cell(cell, *rest)

    monkeypatch.setattr(work, "run_cell", fail)
    assert main([file, "--directory", str(directory)]) == 1
    printed = capsys.readouterr()
    assert "RuntimeError: out of luck" in printed.err
    assert "1 of 4 cells failed; --retry runs them again" in printed.err
    assert [(cell / "done").exists() for cell in cells(directory)] == [True, False, True, True]
    monkeypatch.setattr(work, "run_cell", run_cell)
    assert main([file, "--directory", str(directory)]) == 1
    assert main([file, "--directory", str(directory), "--retry"]) == 0
    assert (directory / "results.csv").read_bytes() == (finished[1] / "results.csv").read_bytes()


def test_a_failure_that_cannot_be_recorded_ends_in_one_line(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work, "run_cell", full)
    monkeypatch.setattr(work, "write_json", full)
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
        ({}, ["--workers", "3"], "--workers: without --cluster there are no workers; allowed: with --cluster slurm or"),
        ({}, ["--cluster_options.timeout_min", "3"], "--cluster_options: without --cluster there are no workers"),
        ({}, ["--cluster", "pbs"], "cluster = 'pbs': allowed: local, slurm"),
        ({}, ["--cluster", "local", "--workers", "0"], "workers = 0: expected `int` >= 1"),
        ({}, ["--cluster", "local", "--dry-run"], "--dry-run: it runs in this process; allowed: without --cluster"),
        ({}, ["--cluster=local", "--compare=1"], "--compare: it runs in this process; allowed: without --cluster"),
        (
            {},
            ["--cluster", "local", "--cluster_options.hurry", "3"],
            "cluster_options = {'hurry': 3}: Parameter 'hurry'",
        ),
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


@pytest.mark.long
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


def test_workers_run_the_same_sweep_and_their_parent_reports(finished, monkeypatch, capsys):
    called = []

    def begin(kind, directory, count, options, command, words):
        called.append((kind, directory, count, options, words))
        return Workers(kind, [SimpleNamespace(job_id=f"7_{number}") for number in range(count)])

    file, directory = finished
    monkeypatch.setattr(sweep, "start", begin)
    monkeypatch.setattr(sweep, "watch", lambda *_: ["worker 1 failed: exit status 2"])
    words = [file, f"--directory={directory}", "--devices.use", "1", "--cluster", "slurm", "--workers=3", "--retry"]
    monkeypatch.setattr(sweep, "check_cluster", lambda *_: None)
    assert main([*words, "--cluster_options.timeout_min", "9"]) == 0
    passed = [file, f"--directory={directory}", "--devices.use", "1", "--no-report"]
    assert called == [("slurm", directory, 3, {"timeout_min": 9}, passed)]
    printed = capsys.readouterr()
    assert f"workers: 7_0, 7_1, 7_2   logs: {directory / 'cluster'}" in printed.out
    assert "interquartile mean over seeds" in printed.out
    assert printed.err == "worker 1 failed: exit status 2\n"


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("local", "stopped, with all workers; finished cells and checkpoints are kept; go on with: metarule sweep "),
        ("slurm", "; end them with: scancel 7\n"),
    ],
)
def test_a_stop_says_what_becomes_of_workers(kind, advice, finished, monkeypatch, capsys):
    def interrupted(workers, cells, stop):
        stop.ask(signal.SIGINT)
        stop.answer(0)

    file, directory = finished
    monkeypatch.setattr(sweep, "check_cluster", lambda *_: None)
    monkeypatch.setattr(sweep, "start", lambda *_: Workers(kind, [SimpleNamespace(job_id="7_0")]))
    monkeypatch.setattr(sweep, "watch", interrupted)
    assert main([file, "--directory", str(directory), "--cluster", kind]) == 130
    assert advice in capsys.readouterr().err


def test_cells_that_workers_leave_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "start", lambda *_: Workers("local", []))
    monkeypatch.setattr(sweep, "watch", lambda *_: [])
    assert main([small(tmp_path), "--directory", str(tmp_path / "out"), "--cluster", "local"]) == 1
    assert "4 of 4 cells are not finished; go on with: metarule sweep " in capsys.readouterr().err


@pytest.mark.long
def test_two_local_workers_share_a_sweep(finished, tmp_path, capsys):
    words = [finished[0], "--directory", str(tmp_path), "--cluster", "local", "--devices.use", "1"]
    assert main(words) == 0, capsys.readouterr().err
    assert (tmp_path / "results.csv").read_text() == (finished[1] / "results.csv").read_text()
    done = [line for log in (tmp_path / "cluster").glob("*.out") for line in log.read_text().splitlines()]
    assert len([line for line in done if ": done in " in line]) == 4


@pytest.mark.long
def test_a_stop_ends_local_workers(finished, tmp_path):
    words = [sys.executable, "-m", "metarule", "sweep", finished[0], "--directory", str(tmp_path), "--cluster", "local"]
    parent = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = next(line for line in parent.stdout if line.startswith("workers: "))
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=120)[1].startswith("\nstopped, with all workers")
    assert parent.returncode == 130
    for number in workers.partition("   ")[0].removeprefix("workers: ").split(", "):
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)
