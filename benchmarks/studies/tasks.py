"""Study A: error on new tasks and on training tasks against the number of training tasks.

Tasks take the place of examples (Bengio et al.): with N training tasks and a rule of capacity h, here the number of its
coefficients, the gap between the errors on new and on training tasks is bounded by a curve of the form

    c·√(h·(ln(N/h) + 1)/N),  N ≥ h
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.studies.declaration import Study
from benchmarks.studies.laws import CLOSED, closing_exponent, fit, power_law
from benchmarks.studies.results import Results, middle
from metarule.analysis.statistics import Interval, interval_text
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import figure_of, picture
from metarule.runs.figures.methods import style_of
from metarule.sweeps.plan import Plan
from metarule.sweeps.report import paired
from metarule.sweeps.rows import lines_of

__all__ = ["check", "draw", "table", "table_rows"]

_AXIS = "optimizer.train_tasks"


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if len(study.tests) > 1 or study.retuned:
        raise ConfigError("kind = 'tasks': there is one test, and baselines are tuned where rules are learned")
    for setting in plan.settings:
        if set(setting.values) != {"case", _AXIS} or not isinstance(setting.values[_AXIS], int):
            raise ConfigError(f"kind = 'tasks': {setting.label}: cases name the rules, and numbers of {_AXIS} the axis")


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make one row a rule and number of training tasks, then rows without such a number.

    These are one a rule, its power law, and one for the exponent over the rules.
    """
    rows: list[dict[str, Any]] = []
    (test, *_) = results.tests
    for number, setting in enumerate(results.plan.settings):
        new, old = results.by_seed(number, test), results.trained(number)
        row = {"rule": setting.values["case"], "training_tasks": setting.values[_AXIS], "seeds": len(new)}
        row |= {"new_error": middle(_errors(new)), "training_error": middle(_errors(old)), "gap": paired(old, new)}
        row |= {name: middle(_errors(results.by_seed(number, test, name))) for name in results.baselines}
        rows.append(row)
    gaps = _gaps(results)
    rows += [{"rule": rule, "training_tasks": None} | fit(*known)._asdict() for rule, known in gaps.items()]
    return [*rows, {"rule": "all", "training_tasks": None, "closing_exponent": _closing_exponent(results, gaps)}]


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the rows for the screen, with the power law of each rule, and of the number of tasks that it needs."""
    lines = [*lines_of([row for row in rows if row["training_tasks"]]), ""]
    for row in rows:
        if "exponent" in row:
            law = f"gap ≈ {row['scale'].mean:.3f}·N^−{_between(row['exponent'], '.2f')}"
            lines.append(f"{row['rule']}: {law}; {CLOSED:g} with {_between(row['closed'], ',.0f')} tasks")
        if one := row.get("closing_exponent"):
            lines.append(f"tasks that close the gap: number of terms to the power of {_between(one, '.2f')}")
    return "\n".join(lines)


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw errors and gaps against the number of training tasks."""
    figure, (errors, gap_axes) = figure_of(2, width=6.4, height=4.6)
    names, shown = [*_gaps(results), *results.baselines], [row for row in rows if row["training_tasks"]]
    for rule, (numbers, gaps) in _gaps(results).items():
        style = style_of(rule, names)
        of_rule = [row for row in shown if row["rule"] == rule]
        for name, line in (("new_error", "-"), ("training_error", ":")):
            _line(errors, numbers, [row[name] for row in of_rule], style | {"linestyle": line}, rule)
        _line(gap_axes, numbers, [row["gap"] for row in of_rule], style | {"linestyle": "-"}, rule)
        _draw_laws(gap_axes, numbers, gaps.mean(axis=0), _coefficients(results, rule), style["color"])
    for name in results.baselines:
        colour = style_of(name, names)["color"]
        mean = float(np.mean([row[name].mean for row in shown if row[name] is not None]))
        errors.axhline(mean, color=colour, linewidth=0.8)
        errors.annotate(name, (1, mean), fontsize="small", color=colour, va="bottom")
    gap_axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    for axes, label in ((errors, "error (fraction)"), (gap_axes, "error on new tasks − on training tasks")):
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.set(xlabel="training tasks (number)", ylabel=label)
    gap_axes.set_title("Gap; dashed: power law, dash-dotted: form of the bound", fontsize="medium")
    gap_axes.legend(fontsize="small")
    errors.set_title("Solid: new tasks, dotted: training tasks; 95 % intervals over seeds", fontsize="medium")
    return figure


def _draw_laws(axes: Any, numbers: list[int], gaps: Float[np.ndarray, " numbers"], size: int, colour: str) -> None:
    """Draw the power law, and the form of the bound for a rule of some coefficients, scaled by least squares."""

    def bound(number: Any) -> Any:
        return np.sqrt(size * (np.log(number / size) + 1) / number)

    smooth = np.geomspace(min(numbers), max(numbers), 100)
    scale, exponent = power_law(numbers, gaps)
    axes.plot(smooth, scale * smooth**-exponent, color=colour, linestyle="--", lw=0.8)
    if max(numbers) >= size:
        known = np.array(numbers) >= size
        terms, beyond = bound(np.array(numbers)[known]), smooth[smooth >= size]
        share = float(np.dot(terms, gaps[known]) / np.dot(terms, terms))
        axes.plot(beyond, share * bound(beyond), color=colour, linestyle="-.", lw=1.6, alpha=0.5)


def _line(axes: Any, where: Sequence[int], values: Sequence[Interval], style: dict[str, Any], label: str) -> None:
    axes.plot(where, [value.mean for value in values], label=label, **style)
    ends = zip(*((one.low, one.high) for one in values))
    axes.fill_between(where, *ends, color=style["color"], alpha=0.15, linewidth=0)


def _errors(scores: dict[int, float]) -> dict[int, float]:
    return {seed: 1 - score for seed, score in scores.items()}


def _gaps(results: Results) -> dict[str, tuple[list[int], Float[np.ndarray, "seeds numbers"]]]:
    """Numbers of training tasks, and the gaps of each seed that has them all, by rule."""
    by_rule: dict[str, dict[int, dict[int, float]]] = {}
    for number, setting in enumerate(results.plan.settings):
        new, old = results.by_seed(number, results.tests[0]), results.trained(number)
        gaps = {seed: old[seed] - new[seed] for seed in new if seed in old}
        by_rule.setdefault(setting.values["case"], {})[setting.values[_AXIS]] = gaps
    complete = {}
    for rule, by_number in by_rule.items():
        numbers = sorted(by_number)
        seeds = sorted(set.intersection(*(set(gaps) for gaps in by_number.values())))
        complete[rule] = numbers, np.array([[by_number[number][seed] for number in numbers] for seed in seeds])
    return complete


def _coefficients(results: Results, rule: str) -> int:
    setting = next(one for one in results.plan.settings if one.values["case"] == rule)
    return len(setting.experiment.lifetime.rule.names)  # type: ignore[attr-defined]


def _closing_exponent(
    results: Results, gaps: Mapping[str, tuple[list[int], Float[np.ndarray, "seeds numbers"]]]
) -> Interval | None:
    """Exponent over rules that have the same numbers of training tasks and the same seeds; else None."""
    if len({(tuple(numbers), len(known)) for numbers, known in gaps.values()}) > 1:
        return None
    numbers = next(iter(gaps.values()))[0]
    sizes = [_coefficients(results, rule) for rule in gaps]
    return closing_exponent(numbers, sizes, np.stack([known for _, known in gaps.values()], axis=1))


def _between(one: Interval, digits: str) -> str:
    return f"{one.mean:{digits}} [{interval_text(one.low, one.high, digits)}]"
