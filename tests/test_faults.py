"""Fault injection: a run that is killed, or whose disk fails, ends as an uninterrupted one, bit for bit.

By default a few faults are injected; `pytest -m long tests/test_faults.py` injects 136 more, in about half an hour.
"""

import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
from budget import trials
from runs_under_fault import EVERY, STEPS, Runs, checkpoints, differences, ended, steps_on_disk

from metarule.commands.train import main
from metarule.runs.directory import CHECKPOINTS, is_run
from metarule.runs.theta_files import THETA

KILL = (signal.SIGKILL,)
MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser may mount a small disk")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory, runs):
    return runs.uninterrupted(tmp_path_factory.mktemp("runs") / "reference")


def wait(process, condition, delay):
    """Wait until a condition holds or the process has ended, and a delay longer."""
    while process.poll() is None and not condition():
        time.sleep(0.001)
    time.sleep(delay)


def while_starting(process, path, reference, chance):
    time.sleep(chance.uniform(0, reference.first))


def while_training(process, path, reference, chance):
    step = chance.randrange(1, STEPS - EVERY)
    wait(process, lambda: steps_on_disk(path) >= step, chance.uniform(0, 0.05))


def while_saving(process, path, reference, chance):
    step = chance.randrange(EVERY, STEPS, EVERY)
    wait(process, lambda: max(checkpoints(path, partial=True), default=0) >= step, chance.uniform(0, 0.05))


def while_evaluating(process, path, reference, chance):
    # The reference run was slower, because it compiled the programs.
    delay = chance.uniform(0, (reference.total - reference.trained) / 2)
    wait(process, (path / THETA).exists, delay)


KILLS = [
    (while_saving, KILL),
    (while_evaluating, KILL),
    (while_starting, KILL),
    (while_saving, (signal.SIGINT, signal.SIGINT)),
    (while_training, KILL),
    (while_training, (signal.SIGTERM,)),
    ((while_training, while_starting), KILL),
    (while_starting, KILL),
    (while_saving, KILL),
    (while_training, KILL),
]


@pytest.mark.parametrize("trial", trials(1, 100))
def test_a_run_that_is_killed_or_stopped_resumes_to_the_same_bits(trial, runs, reference, tmp_path):
    chance, path = random.Random(trial), tmp_path / "a run"
    moments, signals = KILLS[trial % len(KILLS)]
    process = runs.start(path)
    for number, moment in enumerate(moments if isinstance(moments, tuple) else (moments,)):
        if number:  # the run is killed again while it resumes
            process = runs.resume(path)
        moment(process, path, reference, chance)
        for one in signals:
            process.send_signal(one)
            time.sleep(chance.uniform(0, 0.1))
        outcome = ended(process)
    if signals != KILL:
        assert "Traceback" not in outcome.message
    assert steps_on_disk(path) - max(checkpoints(path), default=0) <= 2 * EVERY
    assert runs.differences_after_resuming(path, reference) == []


@pytest.mark.parametrize("trial", trials(0, 10))
def test_one_process_resumes_after_one_of_two_was_killed(trial, runs, reference, tmp_path):
    """The other process stops within a minute with a reason, or is ended by JAX if process 0 was killed."""
    chance, path = random.Random(trial + 3), tmp_path / "run"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    shared = ["--devices.coordinator", address, "--devices.processes", "2", "--devices.use", "1"]
    processes = [runs.start(path, *shared, "--devices.process", str(number)) for number in range(2)]
    step, victim = chance.randrange(STEPS - EVERY), chance.randrange(2)
    condition = lambda: processes[0].poll() is not None or (is_run(path) and steps_on_disk(path) >= step)
    wait(processes[1], condition, chance.uniform(0, 0.05))
    processes[victim].kill()
    clock = time.perf_counter()
    other, killed = ended(processes[1 - victim]), ended(processes[victim])
    assert time.perf_counter() - clock < 60
    if killed.status == -signal.SIGKILL:
        assert other.status in ({1} if victim else {1, -signal.SIGABRT})
        assert other.status != 1 or ("is gone" in other.message and "Traceback" not in other.message)
    assert steps_on_disk(path) - max(checkpoints(path), default=0) <= 2 * EVERY
    assert runs.differences_after_resuming(path, reference) == []


def check_message(outcome):
    """A failing disk causes one line, and one more for each figure that could not be drawn."""
    assert outcome.status in (0, 1, 2), outcome
    assert len([line for line in outcome.message.splitlines() if "could not be drawn" not in line]) <= 1
    assert "Traceback" not in outcome.message


@contextmanager
def disk(path, size):
    """A small disk in memory; yields a function that changes its options, such as `ro`."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def interrupted(runs, path):
    """Kill a run that has at least two checkpoints and meta-steps after them."""
    process = runs.start(path)
    wait(process, lambda: steps_on_disk(path) > 3 * EVERY, 0)
    process.kill()
    ended(process)


@pytest.mark.parametrize("trial", trials(1, 5))
def test_a_file_truncated_by_a_size_limit_is_repaired(trial, runs, reference, tmp_path):
    most = random.Random(trial + 1).randrange((reference.path / "metrics.jsonl").stat().st_size)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        process = runs.start(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_message(ended(process))
    assert runs.differences_after_resuming(tmp_path / "run", reference) == []


@MOUNTS
@pytest.mark.parametrize("trial", trials(0, 5))
def test_a_run_on_a_full_disk_resumes_when_there_is_space(trial, runs, reference, tmp_path):
    size = sum(file.stat().st_size for file in reference.path.rglob("*") if file.is_file())
    with disk(tmp_path / "disk", random.Random(trial).randrange(2**13, size)) as change:
        check_message(ended(runs.start(tmp_path / "disk" / "run")))
        change(f"size={2**25}")
        assert runs.differences_after_resuming(tmp_path / "disk" / "run", reference) == []


@MOUNTS
@pytest.mark.parametrize("trial", trials(0, 5))
def test_a_run_in_a_read_only_directory_resumes_when_it_can_write(trial, runs, reference, tmp_path):
    with disk(tmp_path / "disk", 2**25) as change:
        path = tmp_path / "disk" / "run"
        interrupted(runs, path)
        change("ro")
        check_message(ended(runs.resume(path)))
        change("rw")
        assert runs.differences_after_resuming(path, reference) == []


def truncate(file, chance):
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])


def flip_bit(file, chance):
    content = bytearray(file.read_bytes())
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def remove(file, chance):
    file.unlink()


@pytest.mark.parametrize("damage", [truncate, flip_bit, remove])
@pytest.mark.parametrize("trial", trials(0, 5))
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one(trial, damage, runs, reference, tmp_path):
    chance, path = random.Random(trial), tmp_path / "run"
    interrupted(runs, path)
    damage(path / CHECKPOINTS / f"{checkpoints(path)[-1]}.npz", chance)
    outcome = ended(runs.resume(path))
    check_message(outcome)
    assert outcome.status == 0
    assert differences(path, reference.path) == []


def remove_contents(folder):
    for checkpoint in folder.iterdir():
        checkpoint.write_bytes(b"")


@pytest.mark.parametrize("damage", [shutil.rmtree, remove_contents])
def test_a_run_without_checkpoints_is_refused_and_not_changed(damage, reference, tmp_path, capsys):
    path = shutil.copytree(reference.path, tmp_path / "run")
    (path / "summary.json").unlink()
    metrics = (path / "metrics.jsonl").read_bytes()
    damage(path / CHECKPOINTS)
    assert main(["--resume", str(path)]) == 2
    message = capsys.readouterr().err
    assert "start anew with --overwrite" in message
    assert message.count("\n") == 1
    assert (path / "metrics.jsonl").read_bytes() == metrics


def test_differences_are_named(reference, tmp_path):
    other = shutil.copytree(reference.path, tmp_path / "other")
    assert differences(other, reference.path) == []
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))
    (other / "checkpoints" / f"{STEPS}.npz").unlink()
    (other / "config.toml").write_text("")
    assert differences(other, reference.path) == ["last checkpoint", "metrics.jsonl", "config.toml"]
