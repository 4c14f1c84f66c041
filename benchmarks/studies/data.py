"""Study D: rules that were learned on some classes of real data, on other classes and on other data."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.judging import LEARNED
from benchmarks.studies.results import Results, apart, lines_of, middle
from metarule.figures.canvas import COLOURS, figure_of, save

__all__ = ["draw", "table", "table_rows"]

_TICKS = (0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
# Whose final score is to be reached.
_BACKPROP = "backprop"


def table_rows(results: Results) -> list[dict[str, Any]]:
    """One row a test and contender.

    `reached` are the presentations after which its mean score over seeds is at the final score of backprop, and `share`
    is what part that is of the presentations of the whole life, and `of_backprop` of those that backprop needs to be
    there itself.
    """
    rows: list[dict[str, Any]] = []
    for test in results.tests():
        where, curves = results.curves(0, test, _BACKPROP)
        goal = float(curves[:, -1].mean())
        own = _first(where, curves.mean(axis=0), goal)
        learned = results.by_seed(0, test, LEARNED, results.plan.score)
        for contender in results.contenders():
            there, mine = results.curves(0, test, contender)
            at, scores = _first(there, mine.mean(axis=0), goal), results.by_seed(0, test, contender, results.plan.score)
            row = {"test": test, "contender": contender, "seeds": len(scores), "final": middle(scores)}
            row["learned_ahead"] = None if contender == LEARNED else apart(learned, scores)
            row |= {f"after_{shots}_each": _few(results, test, contender, shots) for shots in (1, 3, 5)}
            row |= {
                "reached": at,
                "share": at / there[-1] if at else None,
                "of_backprop": at / own if at and own else None,
            }
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """The rows for the screen, and on how many tests the goal is reached."""
    tests = results.tests()
    fast = [
        row["test"]
        for row in rows
        if row["contender"] == LEARNED and row["share"] is not None and row["share"] <= 1 / 3
    ]
    says = f"the learned rule is at the final score of {_BACKPROP} after at most a third of the life on "
    return "\n".join([*lines_of(rows), "", says + f"{len(fast)} of {len(tests)} tests: {', '.join(fast) or 'none'}"])


def draw(file: Path, results: Results) -> None:
    """Errors along the life on a logarithmic scale, a panel a test."""
    tests = results.tests()
    figure, panels = figure_of(len(tests), width=3.4, height=4.2)
    for axes, test in zip(panels, tests, strict=True):
        for colour, contender in zip(COLOURS, results.contenders()):
            where, curves = results.curves(0, test, contender)
            errors, style = 1 - curves.mean(axis=0), "--" if "tuned here" in contender else "-"
            axes.plot(where[1:], errors[1:], color=colour, linestyle=style, label=contender)
        goal = 1 - float(results.curves(0, test, _BACKPROP)[1][:, -1].mean())
        axes.axhline(goal, color="0.5", linewidth=0.6, zorder=0)
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.set(xlabel="presentations", title=test, ylim=(0.75 * goal, 0.7))
    panels[0].set_ylabel(f"1 − {results.plan.score}")
    panels[-1].legend(frameon=False, loc="upper right", fontsize="small")
    figure.suptitle("Mean over seeds; grey: where backprop ends")
    save(figure, file)


def _first(where: list[int], mean: Any, goal: float) -> int | None:
    return next((at for at, value in zip(where, np.asarray(mean), strict=True) if value >= goal), None)


def _few(results: Results, test: str, contender: str, shots: int) -> float | None:
    found = middle(results.by_seed(0, test, contender, f"after_{shots}_each"))
    return found.mean if found else None
