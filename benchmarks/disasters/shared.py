"""One of two processes that share a run is killed; the other stops, and the run goes on in one."""

import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

from benchmarks.disasters.kills import ended, last_checkpoint
from benchmarks.disasters.runs import EVERY, STEPS, Whole, begun, finished, taken
from metarule.runs.directory import is_run
from metarule.runs.theta_files import THETA

__all__ = ["KIND", "kill_one"]

KIND = "one of two processes"
_COUNT = 2
# Seconds within which the other has to stop.
_SOON = 60.0
_POLL, _AFTER = 0.002, 0.05


def kill_one(path: Path, programs: Path, whole: Whole, chance: random.Random) -> dict[str, Any]:
    """Begin a run in two processes, kill one of them once they have met, and go on in one process.

    Args:
        path: directory of the run, which is not there.
        programs: where compiled programs are kept.
        whole: the run that nothing befell.
        chance: decides on the process and the moment.

    Returns:
        As `disasters.kills.kill`; that the other did not stop within a minute, or did not say why, counts as lost. It
        stops with status 1, or is ended by JAX where it is process 0 that is gone.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = f"localhost:{free.getsockname()[1]}"
    shared = ["--devices.coordinator", where, "--devices.processes", str(_COUNT), "--devices.use", "1"]
    processes = [begun(path, programs, *shared, "--devices.process", str(number)) for number in range(_COUNT)]
    step, judged = chance.randrange(STEPS - EVERY), chance.random() < 0.25
    while all(process.poll() is None for process in processes):
        if (path / THETA).exists() if judged else is_run(path) and taken(path) >= step:
            break
        time.sleep(_POLL)
    time.sleep(chance.uniform(0, _AFTER))
    victim = chance.randrange(_COUNT)
    allowed = {1} | ({0} if (path / THETA).exists() else set()) | (set() if victim else {-signal.SIGABRT})
    processes[victim].kill()
    clock = time.perf_counter()
    other, killed = finished(processes[1 - victim]), finished(processes[victim])
    waited, struck = time.perf_counter() - clock, killed.status == -signal.SIGKILL
    row = {"struck": struck, "at": taken(path), "again": max(0, taken(path) - last_checkpoint(path))}
    lost = ended(path, programs, whole)
    if struck and other.status not in allowed:
        lost.append(f"the other ended with {other.status}")
    if other.status == 1 and ("is gone" not in other.says or "Traceback" in other.says):
        lost.append(f"the other said {other.says[-300:]}")
    if waited > _SOON:
        lost.append(f"the other stopped after {waited:.0f} s")
    return row | {"seconds": time.perf_counter() - clock, "lost": "; ".join(lost)}
