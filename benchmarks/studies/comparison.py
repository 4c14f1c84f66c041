"""Learned rules and baselines on each test: final scores, differences, and speed beside backprop."""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from benchmarks.studies.declaration import Study
from benchmarks.studies.evaluation import RETUNED
from benchmarks.studies.results import Results, middle
from metarule.analysis.comparison import LEARNED, SHOTS
from metarule.analysis.statistics import threshold_point
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import figure_of, picture
from metarule.runs.figures.methods import style_of
from metarule.sweeps.plan import Plan
from metarule.sweeps.report import paired
from metarule.sweeps.rows import lines_of

__all__ = ["check", "draw", "table", "table_rows"]

_TICKS = (0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
# Baseline whose final score is the threshold.
_BACKPROP = "backprop"
_TUNED = _BACKPROP + RETUNED
# Steps, and scores there.
_Curve: TypeAlias = tuple[list[int], Float[np.ndarray, " points"]]


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if not (study.baselines or study.retuned):
        raise ConfigError("kind = 'comparison': baselines = [], retuned = []: one of them has to name a baseline")


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make one row a rule, test and contender.

    `difference` is that of the learned rule from the baseline, paired by seed. `steps_to_threshold` are the steps to
    the final score of backprop, `share` their part of the lifetime, and `of_backprop` their ratio to those of backprop
    itself. `steps_to_tuned` are those to the final score of backprop that is tuned on the tasks of the test.
    """
    rules = range(len(results.plan.settings))
    return [row for rule in rules for test in results.tests for row in _rows(results, rule, test)]


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the rows for the screen, and count the tests on which each learned rule is fast."""
    lines = [*lines_of(rows), ""]
    if _BACKPROP not in results.baselines:
        return "\n".join(lines[:-1])
    for rule in dict.fromkeys(row["rule"] for row in rows):
        learned = [row for row in rows if (row["rule"], row["contender"]) == (rule, LEARNED)]
        fast = [row["test"] for row in learned if row["share"] is not None and row["share"] <= 1 / 3]
        line = f"{rule}: the final score of {_BACKPROP} within a third of the lifetime on {len(fast)} of {len(learned)}"
        lines.append(f"{line} tests: {', '.join(fast) or 'none'}")
    return "\n".join(lines)


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw a panel a test: the errors of a single rule along the lifetime, or the final scores of several."""
    several, tests = len(results.plan.settings) > 1, len(results.tests)
    # The names of several rules and the legend need room beside a single panel, too.
    width, height = (max(3.4, 7.5 / tests), 1.4 + 0.22 * len(rows) / tests) if several else (3.4, 4.2)
    figure, panels = figure_of(tests, width, height)
    for axes, test in zip(panels, results.tests, strict=True):
        (_draw_finals if several else _draw_errors)(axes, [row for row in rows if row["test"] == test], results)
        axes.set_title(test)
        if several and axes is not panels[0]:
            axes.set_yticklabels([])
    place = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if several else {"loc": "upper right"}
    panels[-1].legend(fontsize="small", **place)
    end = "95 % interval" if several else "grey: final error of backprop"
    figure.suptitle(f"Interquartile mean over seeds; {end}")
    return figure


def _rows(results: Results, rule: int, test: str) -> list[dict[str, Any]]:
    learned, rows = results.by_seed(rule, test), []
    curves = {name: results.curve(rule, test, name) for name in (LEARNED, *results.baselines)}
    backprop, tuned = curves.get(_BACKPROP), curves.get(_TUNED)
    own = _steps_to_the_end_of(backprop, backprop)
    for contender, curve in curves.items():
        scores, steps = results.by_seed(rule, test, contender), _steps_to_the_end_of(backprop, curve)
        row = {"rule": results.plan.settings[rule].label, "test": test, "contender": contender, "seeds": len(scores)}
        row |= {"final": middle(scores), "difference": None if contender == LEARNED else paired(learned, scores)}
        for metric in (f"after_{shots}_each" for shots in SHOTS):
            few = middle(results.by_seed(rule, test, contender, metric))
            row[metric] = few.mean if few else None
        row |= {"steps_to_threshold": steps, "share": steps / curve[0][-1] if steps else None}
        row["of_backprop"] = steps / own if steps and own else None
        rows.append(row | {"steps_to_tuned": _steps_to_the_end_of(tuned, curve)})
    return rows


def _steps_to_the_end_of(other: _Curve | None, curve: _Curve | None) -> int | None:
    """Steps from which a curve stays at the final score of another; None without one of them, or if it does not."""
    return threshold_point(curve[1], curve[0], other[1][-1]) if other and curve else None


def _draw_errors(axes: Any, rows: list[dict[str, Any]], results: Results) -> None:
    test, contenders = rows[0]["test"], [row["contender"] for row in rows]
    for contender in contenders:
        where, curve = results.curve(0, test, contender)
        style = _style(contender, contenders) | {"markevery": max(len(where) // 5, 1)}
        axes.plot(where[1:], 1 - curve[1:], label=contender, **style)
    if _BACKPROP in contenders:
        final = 1 - float(results.curve(0, test, _BACKPROP)[1][-1])
        axes.axhline(final, color="0.5", linewidth=0.6, zorder=0)
        axes.set_ylim(0.75 * final, 0.7)
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.set(xlabel="step of the lifetime", ylabel=f"error, 1 − {results.plan.score} (fraction)")


def _draw_finals(axes: Any, rows: list[dict[str, Any]], results: Results) -> None:
    rules, contenders = (list(dict.fromkeys(row[name] for row in rows)) for name in ("rule", "contender"))
    for row in (row for row in rows if row["final"] is not None):
        number = contenders.index(row["contender"])
        y = rules.index(row["rule"]) + (number - (len(contenders) - 1) / 2) * 0.8 / len(contenders)
        style = _style(row["contender"], contenders) | {"linestyle": "none"}
        label = row["contender"] if row["rule"] == rules[0] else None
        axes.hlines(y, row["final"].low, row["final"].high, color=style["color"])
        axes.plot(row["final"].mean, y, label=label, **style)
    axes.set_yticks(range(len(rules)), rules)
    axes.invert_yaxis()
    axes.set(xlabel=f"{results.plan.score} (fraction)")


def _style(contender: str, contenders: list[str]) -> dict[str, Any]:
    tuned = {"linestyle": ":", "markerfacecolor": "none"} if contender.endswith(RETUNED) else {}
    return style_of(contender.removesuffix(RETUNED), contenders) | tuned
