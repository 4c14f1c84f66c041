"""Study C: rules learned on one task family, evaluated on each of the others."""

from itertools import permutations
from typing import Any

import numpy as np

from benchmarks.studies.declaration import Study
from benchmarks.studies.results import Results, middle
from metarule.analysis.statistics import interval_text
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import figure_of, picture
from metarule.sweeps.plan import Plan
from metarule.sweeps.report import paired
from metarule.sweeps.rows import lines_of

__all__ = ["check", "draw", "table", "table_rows"]


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if study.baselines:
        raise ConfigError("kind = 'transfer': baselines are tuned on the tasks of each test; name them in retuned")


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make the matrix: one row a family on which a rule was learned, then the baselines; one column a test."""
    rows = [
        {"learned on": setting.label} | {test: middle(results.by_seed(number, test)) for test in results.tests}
        for number, setting in enumerate(results.plan.settings)
    ]
    return rows + [  # tuned on the tasks of the test, hence the same in every setting
        {"learned on": name} | {test: middle(results.by_seed(0, test, name)) for test in results.tests}
        for name in results.baselines
    ]


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the matrix for the screen, with the difference between the rule of each family and the others."""
    lines = [f"{results.plan.score}, interquartile mean over seeds and 95 % interval", *lines_of(rows), ""]
    for (own, test), (other, label) in permutations(enumerate(setting.label for setting in results.plan.settings), 2):
        difference = paired(results.by_seed(own, test), results.by_seed(other, test))
        if difference is not None:
            between = interval_text(difference.low, difference.high, "+.3f", ", ")
            line = f"on {test}, rule learned there − rule learned on {label}:"
            lines.append(f"{line} {difference.mean:+.3f} [{between}]")
    return "\n".join(lines)


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw the matrix as colours and numbers."""
    tests = results.tests
    values = np.array([[row[test].mean if row[test] else np.nan for test in tests] for row in rows])
    figure, (axes,) = figure_of(1, width=2.2 + 1.25 * len(tests), height=1.6 + 0.42 * len(rows))
    axes.imshow(values, cmap="viridis", vmin=np.nanmin(values), vmax=1, aspect="auto")
    middle_value, best = (np.nanmin(values) + 1) / 2, np.nanmax(values, axis=0)
    for (row, column), value in np.ndenumerate(values):
        weight = "bold" if f"{value:.3f}" == f"{best[column]:.3f}" else "normal"
        colour = "black" if value > middle_value else "white"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, weight=weight)
    axes.axhline(len(results.plan.settings) - 0.5, color="white", linewidth=3)
    axes.set_xticks(range(len(tests)), tests, rotation=20, ha="right")
    axes.set_yticks(range(len(rows)), [row["learned on"] for row in rows])
    axes.set(xlabel="evaluated on", ylabel="learned on", title=f"{results.plan.score}; the best of each column in bold")
    axes.spines[:].set_visible(False)
    return figure
