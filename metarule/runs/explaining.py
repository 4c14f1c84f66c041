"""Explanation of the rule of a finished run, from Python."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from metarule.analysis.ablation import limited_contribution_report
from metarule.analysis.comparison import describe_split
from metarule.analysis.explanation import explain_rule
from metarule.analysis.explanation_text import sentences
from metarule.prng import Purpose, run_key, stream
from metarule.protocols import Recorded
from metarule.runs.files import convert, plain
from metarule.runs.finished import FinishedRun

__all__ = ["explain"]


def explain(run: FinishedRun, lifetimes: int = 256) -> dict[str, Any]:
    """Explain a learned rule as `metarule explain` does.

    Args:
        run: the run, from `load`.
        lifetimes: lifetimes on held-out tasks in which states are visited.

    Returns:
        `equation`, `of` (a description of the tasks), `lifetimes`, `diverged`, `parts` and `maps` (as in
        `metarule.analysis.explanation`), `contributions` of terms to the score (those of the run if it has measured
        them), `left_out` with reasons, and `sentences`.

    Raises:
        ConfigError: a rule under which all lifetimes diverge, or a damaged summary.
    """
    learner, split, key = run.learner, run.config.split, run_key(run.config.seed)
    found = explain_rule(learner, run.theta, split.test, stream(key, Purpose.EXPLANATION), lifetimes)
    contributions, left_out = None, dict(found.left_out)
    if isinstance(run.tasks, Recorded):
        left_out["ablation"] = "recordings do not score networks"
    else:
        contributions = _stored(run) or plain(
            limited_contribution_report(learner, run.theta, split, stream(key, Purpose.CONTRIBUTIONS), lifetimes)
        )
        if contributions is None:
            left_out["ablation"] = f"rule = {type(learner.rule).__name__}: it has no terms that could be removed"
    report: dict[str, Any] = plain(
        {
            "equation": run.equation,
            "of": run.summary["inference"]["held_out"] if isinstance(run.tasks, Recorded) else describe_split(split),
            "lifetimes": lifetimes,
            "diverged": lifetimes - found.lifetimes,
            "parts": found.parts,
            "maps": found.maps,
            "contributions": contributions,
            "left_out": left_out,
        }
    )
    return report | {"sentences": sentences(report)}


class _Mean(Struct):
    mean: float
    low: float | None
    high: float | None


class _Term(Struct):
    term: str
    coefficient: float
    without: _Mean
    difference: _Mean
    cumulative: _Mean


class _Contributions(Struct):  # fields that are read back
    metric: str = ""
    of: str = ""
    lifetimes: int = 0
    terms: list[_Term] = []


def _stored(run: FinishedRun) -> Mapping[str, Any] | None:
    """Contributions of terms in the summary of a run; None if it has measured none."""
    file = run.directory / "summary.json"
    stored: _Contributions = convert(file, run.summary.get("contributions", {}), _Contributions)
    return msgspec.to_builtins(stored) if stored.terms else None
