"""Whole runs from Python."""

import threading
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

import metarule as mr
from metarule.commands import train
from metarule.config.toml import ConfigError
from metarule.runs import execution
from metarule.runs.directory import start_run
from metarule.runs.execution import check_start
from metarule.runs.stopping import Stopped
from metarule.types import Split


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mr.run(EXPERIMENT, tmp_path_factory.mktemp("runs") / "run", progress=False)


def theta(run):
    return jax.tree.leaves(run.theta)


def test_a_whole_run_leaves_what_the_command_leaves(run, tmp_path):
    directory = tmp_path / "command"
    start_run(directory, EXPERIMENT, given=None)
    assert train.main(["--resume", str(directory)]) == 0
    names = {path.relative_to(directory) for path in directory.rglob("*.*") if "checkpoints" not in path.parts}
    left = {path.relative_to(run.directory) for path in run.directory.rglob("*.*") if "checkpoints" not in path.parts}
    assert names == left | {Path("report.html")}
    np.testing.assert_array_equal(theta(run), theta(mr.load(directory)))
    assert run.summary["held_out"] == mr.load(directory).summary["held_out"]
    assert (directory / "metrics.jsonl").read_text() == (run.directory / "metrics.jsonl").read_text()


def test_a_finished_run_is_loaded_and_another_one_is_refused(run, monkeypatch):
    monkeypatch.setattr(execution, "train", None)
    np.testing.assert_array_equal(theta(mr.run(EXPERIMENT, run.directory, progress=False)), theta(run))
    with pytest.raises(ConfigError, match="it holds another run, with seed = 3; choose another, or set overwrite"):
        mr.run(replace(EXPERIMENT, seed=4), run.directory)


def test_nothing_is_shown_without_progress(tmp_path, capsys):
    mr.run(EXPERIMENT, tmp_path / "silent", progress=False)
    assert capsys.readouterr() == ("", "")
    mr.run(EXPERIMENT, tmp_path / "shown")
    shown = capsys.readouterr()
    assert "tuning the baselines" in shown.out
    assert "meta-training: 100%" in shown.err


def test_a_class_of_a_script_is_refused(tmp_path):
    Mine = type("Mine", (Unwritable,), {"__module__": "__main__"})
    with pytest.raises(ConfigError, match="rule: Mine is defined in a script or a notebook; allowed: a cl"):
        mr.run(mr.Experiment(rule=Mine()), tmp_path / "run")


def test_runs_of_several_seeds_are_returned_in_order_from_a_thread(tmp_path):
    results = []
    run = replace(EXPERIMENT.run, figure_formats=("svg", "pdf"))
    experiment = replace(EXPERIMENT, seeds=2, optimizer=replace(EXPERIMENT.optimizer, steps=4), run=run)
    thread = threading.Thread(target=lambda: results.append(mr.run(experiment, tmp_path / "run", progress=False)))
    thread.start()
    thread.join()
    assert [one.config.seed for one in results[0]] == [3, 4]
    figures = {f"{name}.{form}" for name in ("coefficients", "meta-loss", "performance") for form in ("pdf", "svg")}
    assert {file.name for file in (tmp_path / "run" / "s3" / "figures").iterdir()} == figures
    assert {file.name for file in (tmp_path / "run" / "figures").iterdir()} == {"seeds.pdf", "seeds.svg"}


def test_ctrl_c_is_a_keyboard_interrupt_and_the_same_call_continues(run, tmp_path, monkeypatch):
    def stop(*_):
        raise Stopped(6, 2)

    with monkeypatch.context() as patched:
        patched.setattr(execution, "train", stop)
        with pytest.raises(KeyboardInterrupt, match="stopped after meta-step 6 of .*; the same call continues"):
            mr.run(EXPERIMENT, tmp_path / "run", progress=False)
    again = mr.run(EXPERIMENT, tmp_path / "run", progress=False)
    np.testing.assert_array_equal(theta(again), theta(run))


@dataclass(frozen=True)
class Unwritable:
    table: object = None

    def init(self, key):
        return jax.numpy.zeros(())

    def delta(self, theta, memory, synapse):
        return theta * synapse.pre, memory


def test_what_no_config_can_hold_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"rule: Unwritable\.table: no config can hold"):
        mr.run(mr.Experiment(rule=Unwritable()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Overlapping:
    """Boolean functions, of which all are test tasks."""

    def split(self, seed):
        train, test = mr.Boolean(inputs=2).split(seed)
        return Split(train, test._replace(size=0 * test.size + test.members.size))

    def __getattr__(self, name):
        return getattr(mr.Boolean(inputs=2), name)


def test_pools_that_share_tasks_are_refused():
    check_start(EXPERIMENT)
    with pytest.raises(ConfigError, match="^tasks: [0-9]+ of 64 test tasks are training tasks; allowed: disjoint"):
        check_start(replace(EXPERIMENT, tasks=Overlapping()))
