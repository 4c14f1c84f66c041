"""Members of sweeps: what each point has learned, as the directory of a finished run."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metarule.config.toml import ConfigError
from metarule.meta.phases import total_steps
from metarule.runs.directory import is_run, start_run
from metarule.runs.experiment import Experiment
from metarule.runs.files import read_json, write_json
from metarule.runs.sweep_files import CELLS, DONE, PLAN, RESULT
from metarule.runs.theta_files import write_theta
from metarule.tasks.base import primary_metric
from metarule.types import Theta

__all__ = ["check_no_sweep", "is_member", "member_name", "write_member"]

# Key of a summary that only members have.
_SWEEP = "sweep"
# Characters of a label in the name of a member, at most.
_LONGEST = 80


def member_name(setting: int, label: str, seed: int) -> str:
    """Name of the directory of a member; the number of the setting tells apart those whose labels look alike."""
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", label.replace(" = ", "=").replace(", ", ","))[:_LONGEST].strip("-.,")
    return "-".join(filter(None, (str(setting), safe, f"s{seed}")))


def write_member(
    path: Path, experiment: Experiment, theta: Theta, metrics: Mapping[str, Any], origin: Mapping[str, Any]
) -> None:
    """Write the directory of a member, which has neither metrics nor baselines.

    Args:
        path: the directory.
        experiment: of the point, with its seed.
        theta: the learned θ.
        metrics: what the sweep has measured, by name.
        origin: the sweep's own names of the point.
    """
    start_run(path, experiment, given=None)
    lifetime, metric = experiment.lifetime, primary_metric(experiment.tasks)
    write_theta(path, lifetime, theta)
    summary = {
        _SWEEP: origin,
        "seed": experiment.seed,
        "steps": total_steps(experiment.optimizer),
        "theta": lifetime.describe(theta),
        "equation": lifetime.equation(theta),
        "meta_loss": {"last": metrics["meta_loss"]},
        "nonfinite_lifetimes": metrics["nonfinite_lifetimes"],
        "rejected_steps": metrics["rejected_steps"],
        "held_out": {
            "metric": metric,
            "lifetimes": experiment.evaluation.lifetimes,
            "learned": {"mean": metrics[metric]},
            "baselines": {},
        },
    }
    write_json(path / "summary.json", summary)


def is_member(path: Path) -> bool:
    """Check whether a run directory is a member of a sweep; one with a damaged summary is not."""
    with suppress(ConfigError):
        return _SWEEP in (read_json(path / "summary.json") or {})
    return False


def check_no_sweep(path: Path) -> None:
    """Refuse a sweep or a cell in place of a run, by a ConfigError that names a member, or says why there is none."""
    if is_run(path) or not ((path / PLAN).exists() or (path / RESULT).exists()):
        return
    inner = f"{CELLS}/*/{DONE}/" if (path / PLAN).exists() else ""
    members = sorted(file.parent for file in path.glob(f"{inner}*/resolved.toml"))
    if members:
        raise ConfigError(f"{path}: it holds the runs of a sweep; give one of them, such as {members[0]}")
    if next(path.glob(f"{inner}{RESULT}"), None) is None:
        raise ConfigError(f"{path}: it holds a sweep, of which no cell is finished")
    raise ConfigError(f"{path}: this sweep is of an earlier version, which kept no runs; run it in another directory")
