import json
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest
from msgspec.structs import replace
from small import EXPERIMENT

from metarule.config.toml import ConfigError
from metarule.runs import directory
from metarule.runs.directory import CHECKPOINTS, is_run, read_experiment, seed_directory, start_run
from metarule.runs.metrics import append_metrics, read_metrics


class Killed(BaseException):
    pass


def test_a_directory_holds_the_given_and_the_resolved_config(tmp_path):
    start_run(tmp_path / "a run", EXPERIMENT, given="# mine\nseed = 3\n")
    assert (tmp_path / "a run" / "config.toml").read_text() == "# mine\nseed = 3\n"
    assert read_experiment(tmp_path / "a run") == EXPERIMENT
    environment = json.loads((tmp_path / "a run" / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert environment["device"]["platform"] == jax.devices()[0].platform


def test_a_directory_that_holds_a_run_is_refused_unless_overwritten(tmp_path):
    start_run(tmp_path, EXPERIMENT, given=None)
    (tmp_path / "mine.txt").write_text("keep me")
    append_metrics(tmp_path, [{"step": 1}])
    (tmp_path / "metrics.csv").touch()
    (tmp_path / "tensorboard").mkdir()
    with pytest.raises(ConfigError, match="it holds a run; go on with --resume, or start anew with --overwrite"):
        start_run(tmp_path, EXPERIMENT, given=None)
    start_run(tmp_path, EXPERIMENT, given=None, overwrite=True)
    assert read_metrics(tmp_path) == []
    assert not (tmp_path / "metrics.csv").exists()
    assert not (tmp_path / "tensorboard").exists()
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_files_of_another_origin_are_not_removed(tmp_path):
    (tmp_path / "figures").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="^run.directory = '.*': it holds no run, but files .* name: figures"):
            start_run(tmp_path, EXPERIMENT, given=None, overwrite=overwrite)
    assert (tmp_path / "figures").exists()


def test_overwriting_removes_the_runs_of_its_seeds_only(tmp_path):
    start_run(tmp_path, replace(EXPERIMENT, seed=1, seeds=2), given=None)
    for seed in (0, 1, 2):
        start_run(seed_directory(tmp_path, seed), replace(EXPERIMENT, seed=seed), given=None)
    (tmp_path / "s2" / "notes.txt").write_text("mine")
    start_run(tmp_path, EXPERIMENT, given=None, overwrite=True)
    assert is_run(tmp_path / "s0")
    assert not (tmp_path / "s1").exists()
    assert [file.name for file in (tmp_path / "s2").iterdir()] == ["notes.txt"]


def test_an_unrelated_run_in_the_place_of_a_seed_is_refused(tmp_path):
    start_run(tmp_path / "s4", EXPERIMENT, given=None)
    both = replace(EXPERIMENT, seeds=2)
    with pytest.raises(ConfigError, match="s4: it holds a run of its own, where that of seed 4 would be"):
        start_run(tmp_path, both, given=None)
    assert [file.name for file in tmp_path.iterdir()] == ["s4"]
    start_run(tmp_path, EXPERIMENT, given=None)  # as a run of one seed lies beside it
    with pytest.raises(ConfigError, match="s4: it holds a run of its own"):
        start_run(tmp_path, both, given=None, overwrite=True)
    assert read_experiment(tmp_path) == EXPERIMENT


def test_a_start_that_was_killed_can_be_repeated(tmp_path, monkeypatch):
    def die():
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(directory, "environment", die)
        start_run(tmp_path, EXPERIMENT, given="# mine\n")
    with pytest.raises(ConfigError, match="stopped before it had begun; start it again with the same command"):
        read_experiment(tmp_path)
    start_run(tmp_path, EXPERIMENT, given=None)
    assert read_experiment(tmp_path) == EXPERIMENT
    assert not (tmp_path / "config.toml").exists()


def test_a_removal_that_was_killed_continues(tmp_path, monkeypatch):
    def die(*_, **__):
        raise Killed

    old = replace(EXPERIMENT, seed=1, seeds=2)
    start_run(tmp_path, old, given="# old\n")
    start_run(seed_directory(tmp_path, 2), replace(EXPERIMENT, seed=2), given=None)
    (tmp_path / "figures").mkdir()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(directory.shutil, "rmtree", die)
        start_run(tmp_path, EXPERIMENT, given=None, overwrite=True)
    with pytest.raises(ConfigError, match="stopped before it had begun"):
        read_experiment(tmp_path)
    start_run(tmp_path, EXPERIMENT, given=None)
    assert {file.name for file in tmp_path.iterdir()} == {"resolved.toml", "environment.json"}


@pytest.mark.parametrize("name", ["x" * 300, "nul\0"])
def test_an_impossible_name_is_refused(name, tmp_path):
    with pytest.raises(ConfigError):
        start_run(tmp_path / name, EXPERIMENT, given=None)
    with pytest.raises(ConfigError):
        read_experiment(tmp_path / name)


def test_a_file_in_the_way_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="run.directory = '.*file/run': Not a directory"):
        start_run(tmp_path / "file" / "run", EXPERIMENT, given=None)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="this is no run directory"):
        read_experiment(tmp_path)
    (tmp_path / "resolved.toml").write_text("format = 2\nsed = 3")
    with pytest.raises(ConfigError, match=r"resolved.toml: sed = 3: there is no such field"):
        read_experiment(tmp_path)


def test_a_run_is_recognised_while_checkpoints_are_written(tmp_path):
    start_run(tmp_path, EXPERIMENT, given=None)
    ended = threading.Event()

    def save_and_remove():
        while not ended.is_set():
            checkpoint = tmp_path / CHECKPOINTS / "1.npz"
            checkpoint.parent.mkdir(exist_ok=True)
            checkpoint.touch()
            checkpoint.unlink()

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(save_and_remove)
        try:
            assert all(is_run(tmp_path) for _ in range(300))
        finally:
            ended.set()
        busy.result()
