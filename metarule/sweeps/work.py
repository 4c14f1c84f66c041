"""Work of one process of a sweep: it runs cells until all are settled."""

import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from metarule.config.toml import ConfigError
from metarule.runs.environment import ENVIRONMENT, environment
from metarule.runs.files import write_json
from metarule.runs.stopping import Stopped, StopRequest
from metarule.runs.sweep_files import DONE, FAILED
from metarule.sweeps.cells import run_cell
from metarule.sweeps.claims import publish, take
from metarule.sweeps.plan import Cell

__all__ = ["POLL", "is_settled", "program", "progress", "work"]

# Seconds between checks of cells that other processes run.
POLL = 0.5
# Compiled programs that a process keeps: each takes thousands of the 65,000 mappings that Linux allows.
_PROGRAMS = 4


def work(cells: Mapping[Path, Cell], stop: StopRequest) -> None:
    """Run cells, by their folders, until all are settled, those of processes that died included."""
    programs: set[Any] = set()
    with progress(cells) as (settled, say):
        while settled() < len(cells):
            idle = True
            for folder, cell in cells.items():
                if is_settled(folder) or (lock := take(folder)) is None:
                    continue
                with lock:
                    stop.answer(0)
                    if is_settled(folder):  # by another process, before the lock was taken
                        continue
                    idle = False
                    _make_room(programs, cell)
                    outcome = _settle(cell, folder, stop, settled)
                say(f"{cell.name}: {outcome}; {settled()} of {len(cells)} cells")
            if idle:
                stop.answer(0)
                time.sleep(POLL)


@contextmanager
def progress(folders: Collection[Path]) -> Iterator[tuple[Callable[..., int], Callable[[str], None]]]:
    """Progress bar over settled cells, by their folders.

    Yields:
        (function that counts them and moves the bar, with the share of the cell that runs; function that prints a line
        where there is no bar).
    """
    shape = "{l_bar}{bar}| {n:.2f}/{total_fmt} cells [{elapsed}<{remaining}]"
    with tqdm(total=len(folders), bar_format=shape, desc="sweep", disable=None) as bar:

        def settled(share: float = 0.0) -> int:
            count = sum(map(is_settled, folders))
            bar.update(count + share - bar.n)
            return count

        def say(line: str) -> None:
            if bar.disable:
                print(line, flush=True)

        yield settled, say


def is_settled(folder: Path) -> bool:
    """True if a cell is done, or has failed."""
    return (folder / DONE).exists() or (folder / FAILED).exists()


def program(cell: Cell) -> Any:
    """Identity of the compiled program of a cell."""
    return cell.experiment, cell.fields, len(cell.points)


def _make_room(programs: set[Any], cell: Cell) -> None:
    """Drop compiled programs before there are too many."""
    programs.add(program(cell))
    if len(programs) > _PROGRAMS:
        jax.clear_caches()
        programs.clear()


def _settle(cell: Cell, folder: Path, stop: StopRequest, settled: Any) -> str:
    """Run a cell; a failure is recorded, and does not end the others."""
    clock = time.perf_counter()
    try:
        finished = run_cell(cell, folder, stop, settled)
        return f"done in {time.perf_counter() - clock:.1f} s" if finished else "done by another process"
    except Stopped:
        raise
    except Exception as error:  # of any kind: it is the result of this cell
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        unpublished = folder / f"work-{uuid.uuid4().hex}"
        try:
            unpublished.mkdir()
            write_json(unpublished / "failure.json", {"error": reason, "traceback": traceback.format_exc()})
            write_json(unpublished / ENVIRONMENT, environment())
            publish(unpublished, folder / FAILED)
        except OSError as unwritten:
            raise ConfigError(f"{folder}: {reason}; this cannot be recorded: {unwritten.strerror}") from unwritten
        shutil.rmtree(unpublished, ignore_errors=True)
        return f"failed: {reason}"
