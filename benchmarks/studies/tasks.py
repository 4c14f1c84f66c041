"""Study A: error on new tasks and on training tasks against the number of training tasks.

Tasks take the place of examples (Bengio et al.): with N training tasks and a rule of capacity h, here the number of its
coefficients, the gap between the errors on new and on training tasks is bounded by a curve of the form

    c·√(h·(ln(N/h) + 1)/N),  N ≥ h
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks.studies.declaration import Study
from benchmarks.studies.results import Results, middle
from metarule.analysis.statistics import Interval, interval, interval_text
from metarule.config.toml import ConfigError
from metarule.runs.figures.canvas import figure_of, picture
from metarule.runs.figures.methods import style_of
from metarule.sweeps.plan import Plan
from metarule.sweeps.report import paired
from metarule.sweeps.rows import lines_of

__all__ = ["Fit", "check", "draw", "fit", "table", "table_rows"]

_AXIS = "optimizer.train_tasks"


class Fit(NamedTuple):
    """Scale, the gap with one training task, and exponent of gap ≈ scale·N^(−exponent), with 95 % intervals."""

    scale: Interval
    exponent: Interval


def check(study: Study, plan: Plan) -> None:
    """Refuse a study that does not fit this table."""
    if len(study.tests) > 1 or study.retuned:
        raise ConfigError("kind = 'tasks': there is one test, and baselines are tuned where rules are learned")
    for setting in plan.settings:
        if set(setting.values) != {"case", _AXIS} or not isinstance(setting.values[_AXIS], int):
            raise ConfigError(f"kind = 'tasks': {setting.label}: cases name the rules, and numbers of {_AXIS} the axis")


def fit(numbers: Sequence[int], gaps: Float[np.ndarray, "seeds numbers"]) -> Fit:
    """Fit a power law to the mean gap over seeds by least squares, since gaps may be negative.

    Intervals are those of the jackknife: n fits without seed i give n nearly independent values, n·fit − (n − 1)·fitᵢ.

    Args:
        numbers: of training tasks.
        gaps: error on new tasks less that on training tasks.

    Returns:
        The fit; the ends of its intervals are NaN where a fit without one of the seeds does not converge.

    References:
        Tukey 1958 (the jackknife).
    """
    count, fitted = len(gaps), np.array(_power(numbers, gaps.mean(axis=0)))
    without = [_power(numbers, np.delete(gaps, seed, axis=0).mean(axis=0)) for seed in range(count) if count > 1]
    values = count * fitted - (count - 1) * np.array(without).reshape(-1, 2)
    return Fit(*(_around(float(middle), column) for middle, column in zip(fitted, values.T, strict=True)))


def table_rows(results: Results) -> list[dict[str, Any]]:
    """Make one row a rule and number of training tasks."""
    rows: list[dict[str, Any]] = []
    (test, *_) = results.tests
    for number, setting in enumerate(results.plan.settings):
        new, old = results.by_seed(number, test), results.trained(number)
        row = {"rule": setting.values["case"], "training_tasks": setting.values[_AXIS], "seeds": len(new)}
        row |= {"new_error": middle(_errors(new)), "training_error": middle(_errors(old)), "gap": paired(old, new)}
        row |= {name: middle(_errors(results.by_seed(number, test, name))) for name in results.baselines}
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], results: Results) -> str:
    """Format the rows for the screen, with the power law of each rule."""
    lines = [*lines_of(rows), ""]
    for rule, (numbers, gaps) in _gaps(results).items():
        scale, exponent = fit(numbers, gaps)
        between = interval_text(exponent.low, exponent.high, ".2f")
        lines.append(f"{rule}: gap ≈ {scale.mean:.3f}·N^−{exponent.mean:.2f}, exponent 95 % interval {between}")
    return "\n".join(lines)


@picture
def draw(rows: list[dict[str, Any]], results: Results) -> Any:
    """Draw errors and gaps against the number of training tasks."""
    figure, (errors, gap_axes) = figure_of(2, width=6.4, height=4.6)
    names = [*_gaps(results), *results.baselines]
    for rule, (numbers, gaps) in _gaps(results).items():
        style = style_of(rule, names)
        of_rule = [row for row in rows if row["rule"] == rule]
        for name, line in (("new_error", "-"), ("training_error", ":")):
            label = f"{rule}, {name.removesuffix('_error')} tasks"
            _line(errors, numbers, [row[name] for row in of_rule], style | {"linestyle": line}, label)
        _line(gap_axes, numbers, [row["gap"] for row in of_rule], style | {"linestyle": "-"}, rule)
        _draw_laws(gap_axes, numbers, gaps.mean(axis=0), _coefficients(results, rule), style["color"])
    for name in results.baselines:
        colour = style_of(name, names)["color"]
        mean = float(np.mean([row[name].mean for row in rows if row[name] is not None]))
        errors.axhline(mean, color=colour, linewidth=0.8)
        errors.annotate(name, (1, mean), fontsize="small", color=colour, va="bottom")
    gap_axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    for axes, label in ((errors, "error (fraction)"), (gap_axes, "error on new tasks − on training tasks")):
        axes.set_xscale("log")
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.set(xlabel="training tasks (number)", ylabel=label)
        axes.legend(fontsize="small")
    gap_axes.set_title("Gap; dashed: power law, dash-dotted: form of the bound", fontsize="medium")
    errors.set_title("Interquartile mean over seeds and 95 % interval", fontsize="medium")
    return figure


def _draw_laws(axes: Any, numbers: list[int], gaps: Float[np.ndarray, " numbers"], size: int, colour: str) -> None:
    """Draw the power law, and the form of the bound for a rule of some coefficients, scaled by least squares."""

    def bound(number: Any) -> Any:
        return np.sqrt(size * (np.log(number / size) + 1) / number)

    smooth = np.geomspace(min(numbers), max(numbers), 100)
    scale, exponent = _power(numbers, gaps)
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


def _power(numbers: Sequence[int], gaps: Float[np.ndarray, " numbers"]) -> tuple[float, float]:
    from scipy.optimize import curve_fit  # takes most of a second to import

    start = (max(float(gaps[0]), 1e-3), 0.5)
    try:
        (scale, exponent), _ = curve_fit(lambda n, a, b: a * n**-b, np.array(numbers, float), gaps, start, maxfev=5000)
    except RuntimeError:  # does not converge
        return float(gaps[0]), np.nan
    return float(scale), float(exponent)


def _around(middle: float, values: Float[np.ndarray, " n"]) -> Interval:
    """Interval of values, shifted to the reported fit."""
    if not values.size:
        return Interval(middle, np.nan, np.nan)
    mean, low, high = interval(values)
    return Interval(middle, middle + low - mean, middle + high - mean)
