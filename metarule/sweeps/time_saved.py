"""Time that a sweep saves: its own, and that of its points one after another, each in a process of its own."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from metarule.config.toml import ConfigError
from metarule.parallel.compilation_cache import VARIABLE
from metarule.runs.experiment import to_tree
from metarule.runs.files import read_json
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT
from metarule.sweeps.plan import Plan, Point
from metarule.sweeps.rows import write_whole

__all__ = ["measure_time_saved", "time_saved_table"]


def measure_time_saved(
    words: Sequence[str], plan: Plan, directory: Path, sample: int, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time a sweep, and a sample of its points in sweeps of one point; start-up and compiling are included.

    Half of the sample is run before the sweep and half after it, because other work on the machine varies.

    Args:
        words: of the command line that runs the sweep, without its directory.
        plan: of the sweep.
        directory: of the sweep; it must not hold one yet.
        sample: number of points that are run alone; the time of all is scaled from theirs.
        report: called with a line after each measurement.

    Returns:
        Two rows, one a method.

    Raises:
        ConfigError: a directory that holds a sweep, or a process that failed.
    """
    if (directory / PLAN).exists():
        raise ConfigError(f"--directory '{directory}': finished cells are not run again; choose another directory")
    points = [point for cell in plan.cells for point in cell.points]
    chosen = [points[number] for number in np.linspace(0, len(points) - 1, min(sample, len(points))).astype(int)]
    names = {point: f"{plan.settings[point.setting].label}, seed {point.seed}" for point in chosen}
    seconds: dict[Point, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        folders = {point: Path(folder, f"{point.setting}-{point.seed}") for point in chosen}

        def run_single(some: Sequence[Point]) -> None:
            for point in some:
                folders[point].mkdir()
                seconds[point] = _run([str(_write_sweep(plan, point, folders[point]))], folders[point])
                report(f"{names[point]}, alone: {seconds[point]:.1f} s")

        run_single(chosen[: len(chosen) // 2])
        together = _run(words, directory)
        report(f"{len(points)} points in one sweep: {together:.1f} s")
        run_single(chosen[len(chosen) // 2 :])
        thetas, largest = _thetas(directory), 0.0
        for point in chosen:
            (single,) = _thetas(folders[point]).values()
            difference = float(np.max(np.abs(np.subtract(single, thetas[point]))))
            report(f"{names[point]}: largest difference of θ: {difference:.1e}")
            largest = max(largest, difference)
    one_by_one = float(np.mean(list(seconds.values()))) * len(points)
    rows = (("one sweep", len(points), together), ("one after another", len(chosen), one_by_one))
    return [
        {"method": method, "points": len(points), "measured": measured, "seconds": spent, "share": spent / one_by_one}
        | {"largest_difference_of_theta": largest}
        for method, measured, spent in rows
    ]


def time_saved_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the rows for the screen."""
    lines = [f"{'method':<20}{'points':>7}{'measured':>10}{'seconds':>10}{'share':>8}"]
    for row in rows:
        numbers = f"{row['points']:>7}{row['measured']:>10}{row['seconds']:>10.1f}{row['share']:>8.2f}"
        lines.append(f"{row['method']:<20}{numbers}")
    lines.append(f"largest difference of a parameter: {rows[0]['largest_difference_of_theta']:.1e}")
    return "\n".join(lines)


def _write_sweep(plan: Plan, point: Point, folder: Path) -> Path:
    """Write a sweep file of one point."""
    experiment = replace(plan.settings[point.setting].experiment, seed=point.seed, seeds=1)
    write_whole(folder / "config.toml", msgspec.toml.encode(to_tree(experiment)).decode())
    write_whole(folder / "single.toml", msgspec.toml.encode({"config": "config.toml"}).decode())
    return folder / "single.toml"


def _run(words: Sequence[str], directory: Path) -> float:
    """Seconds of a sweep in a process of its own, without cached programs."""
    command = [sys.executable, "-m", "metarule", "sweep", *words, "--directory", str(directory), "--no-report"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {VARIABLE: "off"})
    if done.returncode:
        raise ConfigError(f"a process of the comparison failed: {(done.stderr.splitlines() or ['no reason'])[-1]}")
    return time.perf_counter() - start


def _thetas(directory: Path) -> dict[Point, list[float]]:
    """Parameters of each point of a sweep."""
    files = directory.glob(f"{CELLS}/*/{DONE}/{RESULT}")
    points = [point for file in files for point in read_json(file)["points"]]
    return {Point(point["setting"], point["seed"]): list(point["theta"].values()) for point in points}
