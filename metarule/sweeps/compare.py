"""Time of a sweep beside that of its points one after another, each in a process of its own."""

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
from metarule.sweeps.cells import DONE
from metarule.sweeps.plan import Plan, Point
from metarule.sweeps.report import CELLS, PLAN
from metarule.sweeps.rows import write_whole

__all__ = ["compare", "comparison_table"]


def compare(
    words: Sequence[str], plan: Plan, directory: Path, sample: int, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time a sweep, and a sample of its points alone; start-up and compiling are included.

    A point alone is a sweep of one point, so that the work is the same. Half of the sample is run before the sweep and
    half after it, since other work on the machine comes and goes.

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
    alone: dict[Point, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root, half = Path(folder), len(chosen) // 2

        def run_alone(some: Sequence[Point]) -> None:
            for point in some:
                alone[point] = _run([str(_sweep_of(plan, point, root))], _folder(root, point))
                report(f"{plan.settings[point.setting].label}, seed {point.seed}, alone: {alone[point]:.1f} s")

        run_alone(chosen[:half])
        whole = _run(words, directory)
        report(f"{len(points)} points in one sweep: {whole:.1f} s")
        run_alone(chosen[half:])
        together = _results(directory)
        differences = {point: _difference(_results(_folder(root, point)), together[point]) for point in chosen}
        for point, difference in differences.items():
            report(
                f"{plan.settings[point.setting].label}, seed {point.seed}: largest difference of θ: {difference:.1e}"
            )
    agreement = max(differences.values())
    one_by_one = float(np.mean(list(alone.values()))) * len(points)
    rows = [("one sweep", len(points), whole), ("one after another", len(chosen), one_by_one)]
    return [
        {
            "method": method,
            "points": len(points),
            "measured": measured,
            "seconds": seconds,
            "share": seconds / one_by_one,
        }
        | {"largest_difference_of_theta": agreement}
        for method, measured, seconds in rows
    ]


def comparison_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the rows for the screen."""
    lines = [f"{'method':<20}{'points':>7}{'measured':>10}{'seconds':>10}{'share':>8}"]
    for row in rows:
        numbers = f"{row['points']:>7}{row['measured']:>10}{row['seconds']:>10.1f}{row['share']:>8.2f}"
        lines.append(f"{row['method']:<20}{numbers}")
    lines.append(f"largest difference of a parameter: {rows[0]['largest_difference_of_theta']:.1e}")
    return "\n".join(lines)


def _sweep_of(plan: Plan, point: Point, root: Path) -> Path:
    """Write a sweep file of one point."""
    experiment = replace(plan.settings[point.setting].experiment, seed=point.seed, seeds=1)
    file = root / f"sweep-{point.setting}-{point.seed}.toml"
    config = file.with_name(f"config-{file.name}")
    write_whole(config, msgspec.toml.encode(to_tree(experiment)).decode())
    write_whole(file, msgspec.toml.encode({"config": config.name}).decode())
    return file


def _folder(root: Path, point: Point) -> Path:
    return root / f"alone-{point.setting}-{point.seed}"


def _run(words: Sequence[str], directory: Path) -> float:
    """Seconds of a sweep in a process of its own, without cached programs."""
    command = [sys.executable, "-m", "metarule", "sweep", *words, "--directory", str(directory), "--no-report"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {VARIABLE: "off"})
    if done.returncode:
        raise ConfigError(f"a process of the comparison failed: {(done.stderr.splitlines() or ['no reason'])[-1]}")
    return time.perf_counter() - start


def _results(directory: Path) -> dict[Point, dict[str, Any]]:
    files = directory.glob(f"{CELLS}/*/{DONE}/result.json")
    results = [result for file in files for result in read_json(file)["points"]]
    return {Point(result["setting"], result["seed"]): result for result in results}


def _difference(alone: dict[Point, dict[str, Any]], other: dict[str, Any]) -> float:
    """Largest difference of a parameter between a point alone and the same point in a sweep."""
    (one,) = alone.values()
    return float(np.max(np.abs(np.subtract(list(one["theta"].values()), list(other["theta"].values())))))
