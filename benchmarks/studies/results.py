"""Scores of a study by setting, test, contender and seed."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.studies.declaration import Study
from benchmarks.studies.evaluation import Scores
from metarule.analysis.comparison import LEARNED
from metarule.analysis.statistics import Interval, threshold_point
from metarule.sweeps.plan import Plan
from metarule.sweeps.report import axis_value, interquartile, make_report

__all__ = ["Results", "middle"]


class Results:
    """Scores of every item of a study, whose sweep has a plan and a directory."""

    def __init__(self, study: Study, plan: Plan, scores: list[Scores], sweep: Path):
        self.study, self.plan, self.scores, self._sweep = study, plan, scores, sweep

    @property
    def tests(self) -> list[str]:
        """Names of the tests, in order."""
        return list(dict.fromkeys(one.item.test for one in self.scores))

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines, in order."""
        return [name for name in dict.fromkeys(one.item.contender for one in self.scores) if name != LEARNED]

    def by_seed(self, setting: int, test: str, contender: str = LEARNED, metric: str = "") -> dict[int, float]:
        """A metric, by default the score of the sweep, by seed; seeds without it are left out."""
        metric = metric or self.plan.score
        group = self._groups.get((setting, test, contender), ())
        return {one.item.seed: one.metrics[metric] for one in group if metric in one.metrics}

    def curve(self, setting: int, test: str, contender: str) -> tuple[list[int], Float[np.ndarray, " points"]]:
        """Steps, and the interquartile mean over seeds of the mean scores there."""
        group = self._groups[setting, test, contender]
        columns = np.array([one.curve for one in group]).T
        return group[0].steps, np.array([interquartile(column).mean for column in columns])

    def trained(self, setting: int) -> dict[int, float]:
        """Score on training tasks, which the sweep measured, by seed."""
        where = self.plan.settings[setting].label, f"training_{self.plan.score}"
        rows = [row for row in self._report.rows if (row["setting"], row["metric"]) == where]
        return {row["seed"]: row["value"] for row in rows if row["value"] is not None}

    def long_form(self) -> list[dict[str, Any]]:
        """One row a setting, test, contender, seed and metric."""
        rows = []
        for one in self.scores:
            item, setting = one.item, self.plan.settings[one.item.setting]
            axes = {axis: axis_value(setting.values.get(axis)) for axis in self.plan.axes}
            where = {"setting": setting.label, **axes, "test": item.test, "contender": item.contender}
            threshold = threshold_point(np.array(one.curve), one.steps, self.study.threshold)
            for metric, value in (one.metrics | {"steps_to_threshold": threshold}).items():
                rows.append(where | {"seed": item.seed, "metric": metric, "value": value})
        for row in self._report.rows:
            known = {name: value for name, value in row.items() if name != "cell"}
            rows.append(known | {"test": "sweep", "contender": LEARNED})
        return rows

    @cached_property
    def _report(self) -> Any:
        return make_report(self._sweep)

    @cached_property
    def _groups(self) -> dict[tuple[int, str, str], list[Scores]]:
        groups: dict[tuple[int, str, str], list[Scores]] = {}
        for one in self.scores:
            groups.setdefault((one.item.setting, one.item.test, one.item.contender), []).append(one)
        return groups


def middle(values: dict[int, float]) -> Interval | None:
    """Interquartile mean of shares over seeds and its interval; None where no seed has a value."""
    return interquartile(np.array(list(values.values())), share=True) if values else None
