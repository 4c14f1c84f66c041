"""Study B: kinds of Boolean functions, by circuit and rule."""

from typing import Any

from benchmarks.studies.declaration import Study
from benchmarks.studies.results import Results, middle
from metarule.analysis.comparison import LEARNED
from metarule.analysis.statistics import threshold_point
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import figure_of, picture
from metarule.runs.figures.methods import style_of
from metarule.sweeps.plan import Plan
from metarule.sweeps.rows import lines_of

__all__ = ["check", "draw", "table", "table_rows"]

_KIND = "tasks.functions"


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if len(study.tests) > 1 or study.retuned:
        raise ConfigError("kind = 'functions': there is one test, and baselines are tuned where rules are learned")
    for setting in plan.settings:
        if set(setting.values) != {"case", _KIND} or ", " not in setting.values["case"]:
            raise ConfigError(
                f"kind = 'functions': {setting.label}: cases are called 'CIRCUIT, RULE', and {_KIND} is the axis"
            )


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make one row a kind of functions and rule, and one for each baseline in the same circuit.

    `steps` are those from which the mean score over seeds stays at the threshold of the study.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    test, baselines = results.tests[0], results.baselines
    for number, setting in enumerate(results.plan.settings):
        circuit, _, terms = setting.values["case"].partition(", ")
        for contender in (LEARNED, *baselines):
            learned = contender == LEARNED
            row = {"functions": setting.values[_KIND], "circuit": circuit, "rule": terms if learned else contender}
            if (which := tuple(row.values())) in rows:  # baselines do not depend on the rule
                continue
            new = results.by_seed(number, test, contender)
            row |= {"seeds": len(new), "new": middle(new)}
            row["trained_on"] = middle(results.trained(number)) if learned else None
            where, curve = results.curve(number, test, contender)
            rows[which] = row | {"steps": threshold_point(curve, where, results.study.threshold)}
    kinds, circuits, _ = (list(dict.fromkeys(names)) for names in zip(*rows))

    def order(row: dict[str, Any]) -> tuple[int, int, bool]:
        return circuits.index(row["circuit"]), kinds.index(row["functions"]), row["rule"] in baselines

    return sorted(rows.values(), key=order)


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the rows for the screen."""
    note = f"steps: from which the mean share of solved new functions stays at {results.study.threshold:g}"
    return "\n".join([*lines_of(rows), note])


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw the share of solved new functions, and that of solved training functions."""
    circuits, rules = (list(dict.fromkeys(row[name] for row in rows)) for name in ("circuit", "rule"))
    figure, panels = figure_of(len(circuits), width=5.6)
    for axes, circuit in zip(panels, circuits, strict=True):
        of_circuit = [row for row in rows if row["circuit"] == circuit]
        kinds = list(dict.fromkeys(row["functions"] for row in of_circuit))
        for number, rule in enumerate(rules):
            colour, marker = (style_of(rule, rules)[part] for part in ("color", "marker"))
            for row in (row for row in of_circuit if row["rule"] == rule and row["new"] is not None):
                x = kinds.index(row["functions"]) + (number - (len(rules) - 1) / 2) * 0.16
                axes.vlines(x, row["new"].low, row["new"].high, color=colour)
                axes.scatter(x, row["new"].mean, color=colour, marker=marker, s=30)
                if row["trained_on"] is not None:
                    axes.scatter(x, row["trained_on"].mean, marker=marker, facecolors="none", edgecolors=colour, s=60)
            axes.scatter([], [], color=colour, marker=marker, label=rule)
        axes.scatter([], [], facecolors="none", edgecolors="0.5", s=60, label="trained on")
        axes.set_xticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
        axes.set(ylim=(-0.03, 1.03), ylabel="functions solved (fraction)", title=circuit)
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
