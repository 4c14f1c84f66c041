"""One process at a time in a directory."""

import subprocess
import sys
import threading

import pytest
from filelock import FileLock
from msgspec.structs import replace
from small import EXPERIMENT

from metarule.commands import adapt, evaluate, evolve, explain, prune, train
from metarule.config.toml import ConfigError
from metarule.runs import execution, transfer
from metarule.runs.directory import SEARCH, check_ownership, locked_run, start_run
from metarule.runs.execution import Screen, execute
from metarule.runs.locks import HOLDER, LOCK, holder, is_held, locked
from metarule.runs.stopping import StopRequest

HOLD = """
import sys
from pathlib import Path
from metarule.runs.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The directory of a run in which another process works, and that process."""
    path = tmp_path_factory.mktemp("runs") / "my run"
    start_run(path, EXPERIMENT, given=None)
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


@pytest.mark.parametrize("main", [train.main, evolve.main])
@pytest.mark.parametrize("resumed", [True, False])
def test_a_second_run_is_refused_with_directory_and_process(main, resumed, held, capsys):
    path, process = held
    config = "configs/structure-search.toml" if main is evolve.main else "configs/boolean-2.toml"
    if main is evolve.main:
        (path / SEARCH).write_text('{"options": {}}')
    words = ["--resume", str(path)] if resumed else [config, "--run.directory", str(path), "--overwrite"]
    before = (path / "resolved.toml").read_bytes()
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert f"{path}: another process works in it: {process.pid} on " in errors
    assert errors.count("\n") == 1
    assert (path / "resolved.toml").read_bytes() == before
    (path / SEARCH).unlink(missing_ok=True)


@pytest.mark.parametrize("main", [evaluate.main, adapt.main, prune.main, explain.main])
def test_a_locked_run_is_not_evaluated(main, held, capsys, monkeypatch):
    path, process = held
    monkeypatch.setattr(transfer, "load", lambda path: None)
    assert main([str(path)]) == 2
    assert f"{path}: another process works in it: {process.pid} on " in capsys.readouterr().err


def test_without_a_known_process_the_directory_alone_is_named(held):
    path, _ = held
    known = (path / HOLDER).read_text()
    (path / HOLDER).write_text("{")
    with pytest.raises(ConfigError, match="my run: another process works in it$"), locked(path):
        pass
    (path / HOLDER).write_text(known)


def test_the_run_of_one_seed_is_locked_too(tmp_path, held, monkeypatch):
    monkeypatch.setattr(execution, "seed_directory", lambda path, seed: held[0])
    with pytest.raises(ConfigError, match="another process works in it"):
        execute(replace(EXPERIMENT, seeds=2), tmp_path, StopRequest(), Screen())


def test_a_killed_process_releases_its_lock(held):
    path, process = held
    process.kill()
    process.wait()
    with locked(path):
        assert (path / LOCK).exists()
    with locked(path):
        pass


def test_a_run_ends_if_its_directory_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "run"
    start_run(path, EXPERIMENT, given=None)
    with locked(path):
        before = holder(path)
        check_ownership(path, before)
        (path / LOCK).unlink()  # as if it had been left behind
        monkeypatch.setattr("os.getpid", lambda: 1)
        with locked(path), pytest.raises(OSError, match="another process works in it: 1 on ") as caught:
            check_ownership(path, before)
        assert caught.value.filename == str(path)
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError, match="it was removed or moved while the run went on"):
            check_ownership(path, before)
        assert not path.exists()


def test_the_lock_of_another_user_is_an_error(tmp_path, monkeypatch):
    def denied(lock):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", denied)
    (tmp_path / LOCK).touch()
    with pytest.raises(ConfigError, match=f"{LOCK}: Permission denied: is it another user's run?"), locked(tmp_path):
        pass


def test_no_lock_is_written_beside_files_of_another_origin(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="it holds no run, but files of the same name"), locked_run(tmp_path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_a_read_only_directory_needs_no_lock(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with locked(path):
            assert capsys.readouterr() == ("", "")


def test_a_check_of_a_lock_does_not_disturb_a_run_that_starts(tmp_path):
    with locked(tmp_path):
        assert is_held(tmp_path / LOCK)
    assert not is_held(tmp_path / LOCK)
    check = FileLock(tmp_path / LOCK, thread_local=False)
    check.acquire()
    threading.Timer(0.02, check.release).start()
    with locked(tmp_path):
        assert is_held(tmp_path / LOCK)


def test_a_linked_lock_is_not_touched(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    assert not is_held(tmp_path / LOCK)
    assert (tmp_path / "precious").read_text() == "precious"
