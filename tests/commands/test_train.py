"""The command, as a user runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from event_files import scalars
from jax.errors import JaxRuntimeError
from small import OVERRIDES, wait_for, words

from metarule.commands import cli
from metarule.commands.train import main
from metarule.runs.directory import read_experiment, start_run
from metarule.runs.experiment import read_experiment_file
from metarule.runs.stopping import StopRequest
from metarule.runs.training import train

ROOT = Path(__file__).parents[2]
CONFIG = "configs/boolean-2.toml"
SMALL = words(OVERRIDES)


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "metarule.train", *map(str, words)], cwd=ROOT, capture_output=True, text=True, **options
    )


def here(*words):
    """The command in this process, where little is compiled anew; paths of configs are those of the repository."""
    with chdir(ROOT):
        return main([str(word) for word in words])


def theta(path):
    with np.load(path / "theta.npz") as arrays:
        return arrays["theta_0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a run"
    return path, command(CONFIG, *SMALL, "--run.directory", path)


def test_a_run_writes_all_its_files(finished):
    path, done = finished
    assert done.returncode == 0, done.stderr
    assert {file.name for file in path.iterdir()} == {
        "metarule.lock",
        "metarule.process.json",
        "config.toml",
        "resolved.toml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "theta.npz",
        "theta.json",
        "summary.json",
        "performance.json",
        "figures",
        "report.html",
    }
    assert (path / "config.toml").read_text() == (ROOT / CONFIG).read_text()
    for text in ("learned", "backprop", "Δw = ", "meta-step 6 of 6", "summary.json"):
        assert text in done.stdout


def test_the_same_command_gives_the_same_theta(finished, tmp_path):
    assert here(CONFIG, *SMALL, "--run.directory", tmp_path / "run") == 0
    assert np.array_equal(theta(tmp_path / "run"), theta(finished[0]))


def test_a_logger_without_its_package_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("metarule.runs.loggers.names.find_spec", lambda package: None)
    assert here(CONFIG, *SMALL, "--run.loggers", "wandb", "--run.directory", tmp_path / "run") == 2
    hint = "wandb is missing; install it with: pip install 'metarule[wandb]'"
    assert capsys.readouterr().err == f"metarule train: run.loggers[0] = 'wandb': {hint}\n"
    assert not (tmp_path / "run").exists()


def test_it_runs_in_a_thread_as_of_a_notebook_server(finished, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(here, CONFIG, *SMALL, "--run.directory", tmp_path / "run").result() == 0
    assert np.array_equal(theta(tmp_path / "run"), theta(finished[0]))


def test_a_run_resumes_in_its_own_precision_only(finished, float64, capsys):
    assert here("--resume", finished[0]) == 2
    assert "begun in float32, and JAX is set to float64 here; set JAX_ENABLE_X64=0" in capsys.readouterr().err


def test_a_directory_that_holds_a_run_is_refused(finished, capsys):
    assert here(CONFIG, *SMALL, "--run.directory", finished[0]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "--resume" in errors
    assert "--overwrite" in errors


def test_resuming_a_finished_run_shows_its_result(finished, capsys):
    before = (finished[0] / "summary.json").read_bytes()
    assert here("--resume", finished[0]) == 0
    assert "learned" in capsys.readouterr().out
    assert (finished[0] / "summary.json").read_bytes() == before


def test_a_run_on_own_data_is_refused_after_they_have_changed(tmp_path, capsys):
    data, run = tmp_path / "own.csv", tmp_path / "run"
    data.write_text("x,y,name,class\n" + "".join(f"{row % 7},{row % 2},n{row},{'ab'[row % 2]}\n" for row in range(24)))
    fields = {"kind": "tabular", "data": "own.csv", "label": "class", "features": ["x", "y"], "test_rows": 0.5}
    fields |= {"ways": 2, "train_examples": 2, "test_examples": 2}
    small = {"circuit": {"output": "softmax", "hidden": []}, "rule": {"terms": ["pre*modulator"]}}
    (tmp_path / "own.toml").write_text(tomli_w.dumps({"tasks": fields} | small))
    pairs = [("optimizer.steps", 2), ("optimizer.batch_size", 2), ("inner_loop.steps", 4), ("evaluation.lifetimes", 4)]
    experiment, given = read_experiment_file(tmp_path / "own.toml", [*pairs, ("evaluation.monitor_lifetimes", 4)])
    start_run(run, experiment, given)
    assert train(experiment, run, StopRequest(), lambda step, row: None).theta.shape == (1,)
    assert read_experiment(run) == experiment
    data.write_text(data.read_text() + "1,2,n24,a\n")
    assert here("--resume", run) == 2
    error = capsys.readouterr().err
    assert f"tasks: data = '{data}': it has changed since the run was started" in error
    assert error.count("\n") == 1


def test_a_finished_run_is_not_extended(finished, tmp_path, capsys):
    path = shutil.copytree(finished[0], tmp_path / "run")
    resolved = (path / "resolved.toml").read_text()
    (path / "resolved.toml").write_text(resolved.replace("steps = 6", "steps = 8"))
    assert here("--resume", path) == 2
    errors = capsys.readouterr().err
    assert "optimizer.steps = 8, seed = 0: the finished run there took 6 meta-steps with seed 0" in errors
    (path / "summary.json").unlink()
    assert here("--resume", path) == 2
    assert "checkpoints/6.npz: this checkpoint is of another experiment" in capsys.readouterr().err


LONG = [*SMALL, "--optimizer.steps", "160", "--run.steps_per_call", "2", "--evaluation.monitor_every", "20"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert here(CONFIG, *LONG, "--run.directory", path) == 0
    return path


@pytest.mark.parametrize(("number", "devices"), [(signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_a_stopped_run_resumes_to_the_same_theta(number, devices, uninterrupted, tmp_path):
    path = tmp_path / "run"
    start = [sys.executable, "-m", "metarule.train", CONFIG, *LONG, "--run.directory", str(path)]
    env = os.environ | {"JAX_NUM_CPU_DEVICES": devices}
    run = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    wait_for(1, path)
    run.send_signal(number)
    _, errors = run.communicate(timeout=120)
    metrics = path / "metrics.jsonl"
    assert 0 < len(metrics.read_text().splitlines()) < 160
    assert run.returncode == 128 + number
    assert f"go on with: metarule train --resume {path}" in errors
    assert "Traceback" not in errors
    assert here("--resume", path) == 0  # on one device
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == list(range(1, 161))
    if devices == "1":
        assert np.array_equal(theta(path), theta(uninterrupted))
        assert metrics.read_text() == (uninterrupted / "metrics.jsonl").read_text()


def assert_logged(path):
    held_out = json.loads((path / "summary.json").read_text())["held_out"]
    events = scalars(path / "tensorboard")
    assert (path / "metrics.csv").read_text().count("\n") == 7
    assert list(events) == [1, 2, 3, 4, 5, 6]
    assert events[6]["results/held_out.learned.mean"] == pytest.approx(held_out["learned"]["mean"])
    assert "results/held_out.baselines.backprop.mean" in events[6]


def test_seeds_run_in_turn_and_resume(tmp_path, capsys):
    loggers = ["--run.loggers", '["csv", "tensorboard"]']
    assert here(CONFIG, *SMALL, *loggers, "--seeds", 2, "--run.directory", tmp_path / "runs") == 0
    assert "2 seeds" in capsys.readouterr().out
    for seed in ("s0", "s1"):
        assert_logged(tmp_path / "runs" / seed)
    summary = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    first = (tmp_path / "runs" / "s0" / "summary.json").stat().st_mtime_ns
    (tmp_path / "runs" / "s1" / "summary.json").unlink()
    assert here("--resume", tmp_path / "runs") == 0
    assert json.loads((tmp_path / "runs" / "summary.json").read_text()) == summary
    assert (tmp_path / "runs" / "s0" / "summary.json").stat().st_mtime_ns == first
    resolved = tmp_path / "runs" / "s1" / "resolved.toml"
    resolved.write_text(resolved.read_text().replace("steps = 20", "steps = 10"))
    assert here("--resume", tmp_path / "runs") == 2
    assert "s1: it holds another run than that of seed 1 in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.toml"], "nothing.toml: No such file or directory"),
        ([CONFIG, "--rule.hiden", "3"], "train: --rule.hiden = 3: there is no such field; allowed: terms"),
        ([CONFIG, "--run.figure_formats", '["gif"]'], "train: --run.figure_formats.0 = 'gif': allowed: pdf, png, svg"),
        ([CONFIG, "--optimizer.steps", "-3"], "optimizer.steps = -3: expected `int` >= 1"),
        (
            [CONFIG, "--run.loggers", "tensorbord"],
            "loggers[0] = 'tensorbord': allowed: csv, tensorboard, wandb, or my_module:MyLogger; did",
        ),
        ([CONFIG, "--optimizer.steps"], "--optimizer.steps: a value is missing"),
        ([CONFIG, "3"], "'3' is not expected here"),
        (["--seed", "3"], "a config file comes first"),
        (["--resume"], "--resume takes one run directory"),
        (["--resume", "configs"], "configs: this is no run directory"),
        ([CONFIG, "--run.directory", "README.md/x"], "run.directory = 'README.md/x': Not a directory"),
    ],
)
def test_bad_input_gives_one_line_and_exit_status_2(words, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("metarule train: ")
    assert errors.count("\n") == 1


def test_the_exit_status_reaches_the_shell():
    refused = command(CONFIG, "--optimizer.steps", "-3")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nand much more"),
            1,
            "the device failed: RESOURCE_EXHAUSTED",
        ),
        (OSError(28, "No space left on device", "a/file"), 1, "a/file: No space left on device; all is kept"),
        (OSError("no checkpoint could be kept"), 1, "no checkpoint could be kept; all is kept"),
        (KeyboardInterrupt(), 130, "stopped at once; all is kept"),
    ],
)
def test_a_device_that_fails_or_a_second_ctrl_c_gives_one_line(error, status, message, capsys):
    def serve(words):
        raise error

    assert cli.run("metarule.x", ["word"], "", serve, "all is kept") == status
    errors = capsys.readouterr().err
    assert errors.startswith(f"metarule.x: {message}")
    assert errors.count("\n") == 1


def test_ctrl_c_while_a_command_exits_is_silent():
    late = "import atexit, signal; atexit.register(signal.raise_signal, signal.SIGINT)"
    code = f"{late}; from metarule.commands import cli; cli.run('metarule.x', ['word'], '', lambda words: 0, '')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_help_lists_tables_and_exits_with_0(capsys):
    assert main(["--help"]) == 0
    assert "  optimizer " in capsys.readouterr().out
    assert main(["--help", "optimizer"]) == 0
    assert "--optimizer.learning_rate" in capsys.readouterr().out
    assert main([]) == 2
