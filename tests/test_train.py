"""The command, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small import OVERRIDES

ROOT = Path(__file__).parent.parent
CONFIG = "configs/boolean-2.toml"
SMALL = [word for field, value in OVERRIDES.items() for word in (f"--{field}", value)]


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "metarule.train", *map(str, words)], cwd=ROOT, capture_output=True, text=True, **options
    )


def theta(path):
    with np.load(path / "theta.npz") as arrays:
        return arrays["theta_0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a run"
    return path, command(CONFIG, *SMALL, "--run.directory", path)


def test_a_run_leaves_everything_behind(finished):
    path, done = finished
    assert done.returncode == 0, done.stderr
    assert {file.name for file in path.iterdir()} == {
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
    }
    assert (path / "config.toml").read_text() == (ROOT / CONFIG).read_text()
    for words in ("learned", "backprop", "Δw = ", "meta-step 6 of 6", "summary.json"):
        assert words in done.stdout


def test_the_same_seed_gives_the_same_theta_and_another_does_not(finished, tmp_path):
    for seed, same in ((0, True), (1, False)):
        done = command(CONFIG, *SMALL, "--run.directory", tmp_path / str(seed), "--seed", seed)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(theta(tmp_path / str(seed)), theta(finished[0])) == same


def test_a_directory_that_holds_a_run_is_refused(finished):
    refused = command(CONFIG, *SMALL, "--run.directory", finished[0])
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--resume" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_a_finished_run_resumes_to_its_result_and_is_left_as_it_is(finished):
    before = (finished[0] / "summary.json").read_bytes()
    again = command("--resume", finished[0])
    assert again.returncode == 0
    assert "learned" in again.stdout
    assert (finished[0] / "summary.json").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on_and_ends_with_the_same_theta(number, tmp_path):
    words = [sys.executable, "-m", "metarule.train", CONFIG, *SMALL, "--optimizer.steps", "400"]
    words += ["--run.steps_per_call", "2", "--evaluation.every", "20", "--run.checkpoint_every", "1000"]
    run = subprocess.Popen(
        [*words, "--run.directory", tmp_path / "run"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(number)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 128 + number, errors
    assert f"go on with: python -m metarule.train --resume {tmp_path / 'run'}" in errors
    assert "Traceback" not in errors
    assert 0 < len(metrics.read_text().splitlines()) < 400
    assert command("--resume", tmp_path / "run").returncode == 0
    assert command(*words[3:], "--run.directory", tmp_path / "whole").returncode == 0
    assert np.array_equal(theta(tmp_path / "run"), theta(tmp_path / "whole"))
    assert metrics.read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def test_seeds_run_one_after_another_and_resume_where_they_stopped(tmp_path):
    done = command(CONFIG, *SMALL, "--seeds", 2, "--run.directory", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "2 seeds" in done.stdout
    summary = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    first = (tmp_path / "runs" / "s0" / "summary.json").stat().st_mtime_ns
    (tmp_path / "runs" / "s1" / "summary.json").unlink()
    again = command("--resume", tmp_path / "runs")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "runs" / "summary.json").read_text()) == summary
    assert (tmp_path / "runs" / "s0" / "summary.json").stat().st_mtime_ns == first


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing.toml"], "nothing.toml: No such file or directory"),
        (
            [CONFIG, "--rule.hiden", "3"],
            "configs/boolean-2.toml: rule.hiden = 3: there is no such field; allowed: terms",
        ),
        ([CONFIG, "--optimizer.steps", "-3"], "optimizer.steps = -3: expected `int` >= 1"),
        ([CONFIG, "--optimizer.steps"], "--optimizer.steps: a value is missing"),
        ([CONFIG, "3"], "'3' is not expected here"),
        (["--seed", "3"], "a config file comes first"),
        (["--resume"], "--resume takes one run directory"),
        (["--resume", "configs"], "configs: this is no run directory"),
        ([CONFIG, "--run.directory", "README.md/x"], "run.directory = 'README.md/x': Not a directory"),
    ],
)
def test_bad_input_gives_one_line_and_exit_status_2(words, says):
    refused = command(*words)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert refused.stderr.startswith("metarule.train: ")
    assert refused.stderr.count("\n") == 1


def test_help_lists_fields_and_exits_with_0():
    shown = command("--help")
    assert shown.returncode == 0
    assert "--optimizer.learning_rate" in shown.stdout
    assert command().returncode == 2


def test_nothing_is_fetched_or_written_outside_the_run(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    environment = os.environ | {
        "HOME": str(home),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    done = command("configs/digits.toml", *SMALL, "--run.directory", tmp_path / "run", env=environment)
    assert done.returncode == 0, done.stderr
    assert not list(home.iterdir())
