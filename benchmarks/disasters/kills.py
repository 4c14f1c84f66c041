"""One process is killed, or asked to stop, at some moment; then the run goes on."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.disasters.runs import EVERY, STEPS, Outcome, Whole, begun, differences, finished, resume, taken
from metarule.runs.directory import CHECKPOINTS, is_run
from metarule.runs.theta_files import THETA

__all__ = ["KINDS", "ended", "kill", "last_checkpoint"]

# Seconds between looks at the disk, and up to which a signal comes after what it waits for.
_POLL, _AFTER = 0.001, 0.05
# Share of a timed segment_loss within which a signal comes: a run may be faster than the one that was timed.
_WITHIN = 0.8

Moment = Callable[[random.Random, Whole, Path, Callable[[], bool]], None]


def _while_starting(chance: random.Random, whole: Whole, path: Path, alive: Callable[[], bool]) -> None:
    time.sleep(chance.uniform(0, whole.first))


def _while_learning(chance: random.Random, whole: Whole, path: Path, alive: Callable[[], bool]) -> None:
    step = chance.randrange(1, STEPS - EVERY)
    _wait(lambda: taken(path) >= step, alive)
    time.sleep(chance.uniform(0, _AFTER))


def _while_saving(chance: random.Random, whole: Whole, path: Path, alive: Callable[[], bool]) -> None:
    step = chance.randrange(EVERY, STEPS, EVERY)
    _wait(lambda: any(found >= step for found in _checkpoints(path, whole=False)), alive)
    time.sleep(chance.uniform(0, _AFTER))


def _while_judging(chance: random.Random, whole: Whole, path: Path, alive: Callable[[], bool]) -> None:
    _wait(lambda: (path / THETA).exists(), alive)
    time.sleep(chance.uniform(0, _WITHIN * (whole.total - whole.trained)))


class _Kind(NamedTuple):
    moment: Moment
    signals: tuple[int, ...]
    times: int = 1


_KILL = (signal.SIGKILL,)
_KINDS = {
    "start-up": _Kind(_while_starting, _KILL),
    "meta-training": _Kind(_while_learning, _KILL),
    "checkpoint": _Kind(_while_saving, _KILL),
    "final evaluation": _Kind(_while_judging, _KILL),
    "killed again while resumed": _Kind(_while_starting, _KILL, times=2),
    "SIGTERM": _Kind(_while_learning, (signal.SIGTERM,)),
    "Ctrl-C twice": _Kind(_while_saving, (signal.SIGINT, signal.SIGINT)),
}
# What befalls the trials in turn.
KINDS = (
    "checkpoint",
    "start-up",
    "final evaluation",
    "Ctrl-C twice",
    "meta-training",
    "SIGTERM",
    "killed again while resumed",
    "start-up",
    "checkpoint",
    "meta-training",
)


def kill(kind: str, path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """Begin a run, end it by a signal, go on with it, and compare it with one that nothing befell.

    Args:
        kind: one of `KINDS`.
        path: directory of the run, which is not there.
        programs: where compiled programs are kept.
        whole: the run that nothing befell.
        chance: decides on the moment.

    Returns:
        `struck`, whether the signal came before the end; `at`, the meta-step then, `again`, the meta-steps after the
        last checkpoint, which were taken again; `seconds` until the run that went on was done; and what was `lost`.
    """
    what, process = _KINDS[kind], begun(path, programs)
    for _ in range(what.times - 1):
        _while_learning(chance, whole, path, _living(process))
        _end(process, what.signals, chance)
        process = resume(path, programs)
    what.moment(chance, whole, path, _living(process))
    done = _end(process, what.signals, chance)
    row = {"struck": done.status != 0, "at": taken(path), "again": max(0, taken(path) - last_checkpoint(path))}
    clock = time.perf_counter()
    lost = ended(path, programs, whole)
    if what.signals != _KILL and "Traceback" in done.says:
        lost.append(f"said too much: {done.says[-2000:]}")
    return row | {"seconds": time.perf_counter() - clock, "lost": "; ".join(lost)}


def ended(path: Path, programs: Path, whole: Whole) -> list[str]:
    """Go on with a run to its end.

    Args:
        path: its directory; where it holds no run yet, it is begun once more, as its user is told to.
        programs: where compiled programs are kept.
        whole: a run that nothing befell.

    Returns:
        What was lost: nothing, if all is well.
    """
    done = finished(resume(path, programs))
    if done.status == 2 and done.says.count("\n") == 1 and not is_run(path):
        done = finished(begun(path, programs))
    if done.status:
        return [f"ended with {done.status}: {done.says[-300:]}"]
    return differences(path, whole.path)


def last_checkpoint(path: Path) -> int:
    """Meta-step of the last checkpoint that is whole; 0 if none is."""
    return max(_checkpoints(path, whole=True), default=0)


def _checkpoints(path: Path, whole: bool) -> list[int]:
    """Meta-steps of those that are there, or only of the whole ones."""
    names = [folder.name for folder in (path / CHECKPOINTS).glob("*")]
    return [int(name.split(".")[0]) for name in names if name.isdigit() or (not whole and name.split(".")[0].isdigit())]


def _living(process: subprocess.Popen[str]) -> Callable[[], bool]:
    return lambda: process.poll() is None


def _wait(there: Callable[[], bool], alive: Callable[[], bool]) -> None:
    while alive() and not there():
        time.sleep(_POLL)


def _end(process: subprocess.Popen[str], signals: tuple[int, ...], chance: random.Random) -> Outcome:
    for number in signals:
        process.send_signal(number)
        time.sleep(chance.uniform(0, 2 * _AFTER))
    return finished(process)
