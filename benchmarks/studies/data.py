"""Study D: rules learned on some classes of real data, evaluated on other classes and other data."""

from typing import Any

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


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if _BACKPROP not in study.baselines:
        raise ConfigError(f"kind = 'data': baselines = {list(study.baselines)}: '{_BACKPROP}' has to be among them")
    if len(plan.settings) > 1:
        raise ConfigError(f"kind = 'data': the sweep has {len(plan.settings)} settings; allowed: 1")


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make one row a test and contender.

    `steps_to_threshold` are the steps to the final score of backprop, `share` their part of the lifetime, and
    `of_backprop` their ratio to those of backprop itself. `steps_to_tuned` are those to the final score of backprop
    that is tuned on the data of the test.
    """
    rows: list[dict[str, Any]] = []
    for test in results.tests:
        where, backprop = results.curve(0, test, _BACKPROP)
        own, learned = threshold_point(backprop, where, backprop[-1]), results.by_seed(0, test)
        for contender in (LEARNED, *results.baselines):
            scores, (where, curve) = results.by_seed(0, test, contender), results.curve(0, test, contender)
            steps = threshold_point(curve, where, backprop[-1])
            row = {"test": test, "contender": contender, "seeds": len(scores), "final": middle(scores)}
            row["difference"] = None if contender == LEARNED else paired(learned, scores)
            for metric in (f"after_{shots}_each" for shots in SHOTS):
                few = middle(results.by_seed(0, test, contender, metric))
                row[metric] = few.mean if few else None
            row |= {"steps_to_threshold": steps, "share": steps / where[-1] if steps else None}
            row["of_backprop"] = steps / own if steps and own else None
            if _TUNED in results.baselines:
                row["steps_to_tuned"] = threshold_point(curve, where, results.curve(0, test, _TUNED)[1][-1])
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the rows for the screen, and count the tests on which the learned rule is fast."""
    learned = [row for row in rows if row["contender"] == LEARNED and row["share"] is not None]
    fast = [row["test"] for row in learned if row["share"] <= 1 / 3]
    line = f"the learned rule has the final score of {_BACKPROP} within a third of the lifetime on "
    line += f"{len(fast)} of {len(results.tests)} tests: {', '.join(fast) or 'none'}"
    return "\n".join([*lines_of(rows), "", line])


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw errors along the lifetime on a logarithmic scale, a panel a test."""
    figure, panels = figure_of(len(results.tests), width=3.4, height=4.2)
    for axes, test in zip(panels, results.tests, strict=True):
        contenders = (LEARNED, *results.baselines)
        for contender in contenders:
            where, curve = results.curve(0, test, contender)
            style = style_of(contender.removesuffix(RETUNED), contenders) | {"markevery": max(len(where) // 5, 1)}
            style |= {"linestyle": ":", "markerfacecolor": "none"} if contender.endswith(RETUNED) else {}
            axes.plot(where[1:], 1 - curve[1:], label=contender, **style)
        final = 1 - float(results.curve(0, test, _BACKPROP)[1][-1])
        axes.axhline(final, color="0.5", linewidth=0.6, zorder=0)
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.set(xlabel="step of the lifetime", title=test, ylim=(0.75 * final, 0.7))
    panels[0].set_ylabel(f"error, 1 − {results.plan.score} (fraction)")
    panels[-1].legend(loc="upper right", fontsize="small")
    figure.suptitle("Interquartile mean over seeds; grey: final error of backprop")
    return figure
