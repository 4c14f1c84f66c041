"""Files of a run directory that a report reads; each may be missing."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from metarule.config.toml import ConfigError, read, read_bytes
from metarule.runs.directory import PARTIAL, RESOLVED, is_run, read_experiment
from metarule.runs.files import LARGEST, read_json
from metarule.runs.metrics import read_metrics
from metarule.tasks.base import primary_metric

__all__ = ["Sources", "parameter_names", "read_sources", "read_text"]


class Sources(NamedTuple):
    """Content of the files of a run.

    Attributes:
        path: its directory.
        tree: the experiment as nested tables.
        summary: results; empty before the end.
        performance: scores along lifetimes; empty before the end.
        rows: metrics, one a meta-step.
        theta: meaning and values of θ; empty before the end of meta-training.
    """

    path: Path
    tree: dict[str, Any]
    summary: dict[str, Any]
    performance: dict[str, Any]
    rows: list[dict[str, Any]]
    theta: dict[str, Any]

    @property
    def metric(self) -> str:
        """Primary metric; `score` where neither the summary nor the experiment can tell."""
        if named := self.summary.get("held_out", {}).get("metric"):
            return str(named)
        with suppress(ConfigError):
            return primary_metric(read_experiment(self.path).tasks)
        return "score"


def read_sources(path: Path) -> Sources:
    """Read the files of a run of one seed, or of several.

    Raises:
        ConfigError: no run there, a damaged file, or a link that leads out of the directory.
    """
    resolved = path / (RESOLVED if is_run(path) else PARTIAL)  # checks links, too
    names = ("summary.json", "performance.json", "theta.json")
    summary, performance, theta = (read_json(path / name) or {} for name in names)
    return Sources(path, read(resolved)[1], summary, performance, read_metrics(path), theta)


def read_text(file: Path) -> str:
    """Text of a file for a page; empty if there is none."""
    return read_bytes(file, LARGEST).decode(errors="replace") if file.exists() else ""


def parameter_names(sources: Sources) -> Sequence[str]:
    """Names of the numbers of θ in a row of metrics; numbered ones where no file has them yet."""
    count = len(sources.rows[-1].get("theta") or ()) if sources.rows else 0
    known = [sources.theta, *(read_json(sources.path / f"{name}.json") or {} for name in ("best", "given"))]
    named = next((names for one in known if len(names := one.get("names") or ()) == count), None)
    return named or [f"θ[{number}]" for number in range(count)]
