"""A disk that is full or read-only, and checkpoints that are damaged."""

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.disasters.kills import ended, last_checkpoint
from benchmarks.disasters.runs import EVERY, Whole, begun, differences, finished, resume, taken
from metarule.runs.directory import CHECKPOINTS

__all__ = ["KINDS", "damage", "disk", "fail"]

_KIB = 2**10
# What is damaged has two checkpoints and some meta-steps after them.
_BEFORE = 3 * EVERY + 1


def fail(kind: str, path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """Let a disk fail a run, mend the disk, go on, and compare the run with one that nothing befell.

    Args:
        kind: one of `KINDS`.
        path: directory of the run, which is not there.
        programs: where compiled programs are kept.
        whole: the run that nothing befell.
        chance: decides on what fails.

    Returns:
        As `disasters.kills.kill`; a word too many, or none where a run stops, counts as lost.
    """
    clock = time.perf_counter()
    row = _KINDS[kind](path, programs, whole, chance)
    return row | {"seconds": time.perf_counter() - clock, "lost": "; ".join(row["lost"])}


def damage(checkpoint: Path, how: str, chance: random.Random) -> Path:
    """Damage one file.

    Args:
        checkpoint: directory of the checkpoint.
        how: `truncated`, `flipped`, one bit of it, or `missing`.
        chance: decides on the file.

    Returns:
        The file.
    """
    file = chance.choice(sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.stat().st_size))
    content = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: chance.randrange(len(content))])
    else:
        bit = chance.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
    return file


@contextmanager
def disk(path: Path, size: int) -> Iterator[Callable[[str], None]]:
    """A small disk in memory; only the superuser may have one.

    Args:
        path: where it is.
        size: in bytes.

    Yields:
        Changes its options, such as `ro`.
    """
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield lambda options: _remount(path, options)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)


def _full(path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """A disk with less room than the run takes."""
    files = [file.stat().st_size for file in whole.path.rglob("*") if file.is_file()]
    with disk(path, chance.randrange(8 * _KIB, sum(files))) as change:
        return _stopped_and_mended(path / "run", programs, whole, partial(change, f"size={2**25}"))


def _short(path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """Files that cannot grow beyond some size, as where a quota is used up: what is being written then is torn."""
    most = chance.randrange((whole.path / "metrics.jsonl").stat().st_size)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        process = begun(path, programs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return _judged(path, programs, whole, *finished(process))


def _read_only(path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """A directory of a run in which nothing can be written any more."""
    with disk(path, 2**25) as change:
        _interrupted(path / "run", programs)
        change("ro")
        done = finished(resume(path / "run", programs))
        change("rw")
        return _judged(path / "run", programs, whole, *done)


def _stopped_and_mended(path: Path, programs: Path, whole: Whole, mend: Callable[[], None]) -> dict[str, Any]:
    done = finished(begun(path, programs))
    mend()
    return _judged(path, programs, whole, *done)


def _damaged(how: str, path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """The last checkpoint is damaged: the one before it is taken, or it was not needed what was damaged."""
    _interrupted(path, programs)
    at, last = taken(path), last_checkpoint(path)
    damage(path / CHECKPOINTS / str(last), how, chance)
    done = finished(resume(path, programs))
    lost = differences(path, whole.path) if done.status == 0 else [f"ended with {done.status}: {done.says[-300:]}"]
    again = at - last + (EVERY if "going on from" in done.says else 0)
    return {"struck": True, "at": at, "again": again, "lost": lost + _noise(done.says)}


def _none_left(path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """All checkpoints are damaged or gone: the run stops, and leaves what there is."""
    _interrupted(path, programs)
    folder, metrics = path / CHECKPOINTS, (path / "metrics.jsonl").read_bytes()
    if chance.random() < 0.5:
        shutil.rmtree(folder)
    else:
        for checkpoint in folder.iterdir():
            shutil.rmtree(checkpoint / "default", ignore_errors=True)
    done = finished(resume(path, programs))
    lost = [] if done.status == 2 else [f"ended with {done.status}: {done.says[-300:]}"]
    lost += [] if (path / "metrics.jsonl").read_bytes() == metrics else ["metrics.jsonl"]
    return {"struck": True, "at": taken(path), "again": 0, "lost": lost + _noise(done.says)}


_KINDS: dict[str, Callable[[Path, Path, Whole, random.Random], dict[str, Any]]] = {
    "bit flipped in a checkpoint": partial(_damaged, "flipped"),
    "truncated file in a checkpoint": partial(_damaged, "truncated"),
    "missing file in a checkpoint": partial(_damaged, "missing"),
    "no checkpoint left": _none_left,
    "no file may grow": _short,
}
_MOUNTED = {"disk full": _full, "read-only directory": _read_only}
if os.geteuid() == 0:
    _KINDS |= _MOUNTED
# What befalls the trials in turn.
KINDS = tuple(_KINDS)


def _interrupted(path: Path, programs: Path) -> None:
    process = begun(path, programs)
    while process.poll() is None and taken(path) < _BEFORE:
        time.sleep(0.001)
    process.kill()
    finished(process)


def _judged(path: Path, programs: Path, whole: Whole, status: int, says: str) -> dict[str, Any]:
    """What became of a run that a disk failed, and that went on with a good one."""
    row = {"struck": status != 0, "at": taken(path), "again": max(0, taken(path) - last_checkpoint(path))}
    lost = [f"status {status}"] if status not in (0, 1, 2) else []
    return row | {"lost": lost + _noise(says) + ended(path, programs, whole)}


def _noise(says: str) -> list[str]:
    """That more was said than one line."""
    return [f"said too much: {says[-300:]}"] if says.count("\n") > 1 or "Traceback" in says else []
