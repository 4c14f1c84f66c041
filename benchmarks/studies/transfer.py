"""Study C: rules learned on one task family, evaluated on each of the others."""

from typing import Any

import numpy as np

from benchmarks.studies.declaration import Study
from benchmarks.studies.results import Results, middle
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import figure_of, picture
from metarule.sweeps.plan import Plan
from metarule.sweeps.report import paired
from metarule.sweeps.rows import lines_of

__all__ = ["check", "draw", "table", "table_rows"]

_DIFFERENCE = "the test's own − "


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if study.baselines:
        raise ConfigError("kind = 'transfer': baselines are tuned on the tasks of each test; name them in retuned")


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make the matrix: one row a family on which a rule was learned, then the baselines; one column a test.

    Last come the differences of the rule of each test from each other rule there, paired by seed.
    """
    labels = [setting.label for setting in results.plan.settings]
    rows = [
        {"learned on": label} | {test: middle(results.by_seed(number, test)) for test in results.tests}
        for number, label in enumerate(labels)
    ]
    rows += [  # tuned on the tasks of the test, hence the same in every setting
        {"learned on": name} | {test: middle(results.by_seed(0, test, name)) for test in results.tests}
        for name in results.baselines
    ]
    own = {test: results.by_seed(labels.index(test), test) if test in labels else {} for test in results.tests}
    return rows + [
        {"learned on": f"{_DIFFERENCE}{label}"}
        | {test: paired(own[test], results.by_seed(number, test)) if test != label else None for test in results.tests}
        for number, label in enumerate(labels)
    ]


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the matrix for the screen."""
    return "\n".join([f"{results.plan.score}, interquartile mean over seeds and 95 % interval", *lines_of(rows)])


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw the matrix as colours and numbers."""
    tests, rows = results.tests, [row for row in rows if not row["learned on"].startswith(_DIFFERENCE)]
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
