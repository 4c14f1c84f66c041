"""Seeds whose meta-training survives: `python -m benchmarks.robustness [--quick] [--json FILE]`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct

from benchmarks import program
from benchmarks.program import QUICK
from metarule.commands import sweep
from metarule.runs.files import read_json
from metarule.runs.sweep_files import CELLS, DONE, PLAN
from metarule.sweeps.report import make_report
from metarule.sweeps.rows import write_rows

__all__ = ["Options", "main", "robustness"]

_USAGE = """\
Run two sweeps and make one table of them: benchmarks/sweeps/robustness.toml, twenty seeds each of short and long
lifetimes, and benchmarks/sweeps/ablation.toml, which removes one safeguard of meta-training after another. It takes
five minutes on two cores. A second start goes on where the first was stopped; several processes share the work.

--quick                            two cases of the first sweep, two seeds and ten meta-steps: under a minute
"""
_SWEEPS = ("robustness", "ablation")
_FOLDER = Path(__file__).parent / "sweeps"
# Largest distance from the best score that counts as near.
_NEAR = 0.03
_EXPONENT = "lyapunov_exponent"


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of the program.

    Attributes:
        directory: for the two sweeps.
        json: file for the rows of the table; none if empty.
    """

    directory: Annotated[str, Meta(min_length=1)] = "runs/sweeps"
    json: str = ""


def robustness(directory: Path) -> list[dict[str, Any]]:
    """Summarise the seeds of each setting of a sweep in a directory.

    Returns:
        One row a setting with finished cells: its `seeds`, how many of them are `finite`, the `best` and the `worst`
        score, how many are `within_3_points` of the best, the shares of training lifetimes that `diverged` and of
        meta-steps that were `rejected`, and the median over seeds of the largest `lyapunov_exponent`. Values that no
        seed has are None.

    Raises:
        ConfigError: a directory without a sweep, or a sweep without a finished cell.
    """
    report, rows = make_report(directory), []
    for setting in read_json(directory / PLAN)["settings"]:
        of_setting = [row for row in report.rows if row["setting"] == setting["label"]]
        metrics: dict[str, list[float]] = {}
        for row in of_setting:
            metrics.setdefault(row["metric"], []).extend([] if row["value"] is None else [row["value"]])
        if not metrics:  # its cell failed, or is not finished
            continue
        optimizer, scores, exponents = setting["experiment"]["optimizer"], metrics[report.score], metrics[_EXPONENT]
        steps = optimizer["steps"]
        rows.append(
            {
                "sweep": directory.name,
                "setting": setting["label"],
                "seeds": len({row["seed"] for row in of_setting}),
                "finite": int(sum(metrics["finite"])),
                "best": max(scores, default=None),
                "worst": min(scores, default=None),
                "within_3_points": sum(score >= max(scores) - _NEAR for score in scores),
                "diverged": float(np.mean(metrics["nonfinite_lifetimes"])) / (steps * optimizer["batch_size"]),
                "rejected": float(np.mean(metrics["rejected_steps"])) / steps,
                _EXPONENT: float(np.median(exponents)) if exponents else None,
            }
        )
    return rows


def _serve(options: Options, flags: list[str]) -> int:
    rows, status = [], 0
    for name in _SWEEPS[:1] if flags else _SWEEPS:
        directory = Path(options.directory) / (f"{name}-quick" if flags else name)
        done = sweep.main([str(_FOLDER / f"{name}.toml"), "--directory", str(directory), *flags])
        if done > 1:
            return done
        status = max(status, done)
        rows += robustness(directory) if any(directory.glob(f"{CELLS}/*/{DONE}")) else []
    if rows:
        print(f"\n{program.table(rows)}")
    write_rows(options.json, rows)
    return status


main = program.command("benchmarks.robustness", _USAGE, Options, _serve, {}, (QUICK,), True, "finished cells are kept")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
