"""Files of a run directory that a report reads; each may be missing."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarule.analysis.comparison import HELD_OUT, describe_split
from metarule.config.toml import ConfigError, read, read_bytes
from metarule.rules.polynomial import Polynomial
from metarule.runs.directory import PARTIAL, RESOLVED, is_run, read_experiment
from metarule.runs.files import LARGEST, read_json
from metarule.runs.metrics import read_metrics
from metarule.runs.theta_files import theta_meaning
from metarule.tasks.base import primary_metric

__all__ = ["Sources", "last_equation", "parameter_names", "read_sources", "read_text", "tasks_text"]

# Errors of an experiment that cannot be decoded here, or whose data are elsewhere.
_UNREADABLE = (ConfigError, OSError, ValueError)


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
    """Names of the numbers of θ in a row of metrics; numbered ones where neither a file nor the experiment has them."""
    count = len(sources.rows[-1].get("theta") or ()) if sources.rows else 0
    known = [sources.theta, *(read_json(sources.path / f"{name}.json") or {} for name in ("best", "given"))]
    named = next((names for one in known if len(names := one.get("names") or ()) == count), None)
    if named is None and count:
        with suppress(*_UNREADABLE):
            named = theta_meaning(read_experiment(sources.path).lifetime)["names"]
    return named if named and len(named) == count else [f"θ[{number}]" for number in range(count)]


def last_equation(sources: Sources) -> str:
    """Equation of the rule as of the last row of metrics; empty for a rule without terms."""
    with suppress(*_UNREADABLE, KeyError, TypeError):  # a θ that is not finite is null there
        lifetime, row = read_experiment(sources.path).lifetime, sources.rows[-1]["theta"]
        if not isinstance(lifetime.rule, Polynomial):
            return ""
        named = dict(zip(parameter_names(sources), map(float, row), strict=True))
        groups = [f"{group}: " for group in lifetime.theta_groups]
        thetas = [
            lifetime.rule.from_description(
                {name.removeprefix(group): value for name, value in named.items() if name.startswith(group)}
            )
            for group in groups or [""]
        ]
        rule = jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas) if groups else thetas[0]
        return lifetime.equation(lifetime.with_rule_theta(lifetime.theta_scale(), rule))
    return ""


def tasks_text(sources: Sources) -> str:
    """Description of the tasks on which a run is evaluated, from its summary or its split."""
    if named := sources.summary.get("held_out", {}).get("of"):
        return str(named)
    with suppress(*_UNREADABLE):
        return describe_split(read_experiment(sources.path).split)
    return HELD_OUT
