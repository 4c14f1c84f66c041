"""Figures of a run: meta-loss, coefficients, performance, seeds, tasks and structures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from metarule.analysis.comparison import LEARNED, count_text, rows_by_contender, threshold_of
from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import COLOURS, blank, figure_of, picture
from metarule.runs.figures.labels import draw_caption, score_label
from metarule.runs.figures.methods import draw_threshold, legend_entries, legend_width, mark, style_of
from metarule.tasks.scores import DIVERGED

__all__ = ["draw_coefficients", "draw_front", "draw_meta_loss", "draw_performance", "draw_seeds", "draw_tasks"]
__all__ += ["performance_notes", "seeds_notes"]

# Terms that are labelled, at most.
_LABELLED = 8
# Style of scores on validation tasks.
_VALIDATED = {"color": COLOURS[2], "linestyle": "--", "marker": "s"}
# Share of the meta-steps over which a mean runs, and markers along a curve, about.
_WINDOW, _MARKERS = 0.05, 8
_ENDS = ("mean", "low", "high")
# Points of the meta-loss, at most; its running mean knows of all.
_POINTS = 1000
# Characters of a label beside a low panel.
_NARROW = 20


@picture
def draw_meta_loss(rows: Sequence[Mapping[str, Any]], held_out: Mapping[str, Any], run: str) -> Any:
    """Draw the meta-loss with its running mean, and below it scores and Lyapunov exponents during meta-training.

    Args:
        rows: of the metrics; without any, nothing is drawn.
        held_out: of the summary; its `metric`, and `of`, which says what tasks these are.
        run: name of the run.
    """
    if not rows:
        return None
    metric, tasks = held_out["metric"], {"held_out": held_out["of"], "validation": "validation tasks"}
    scores = {label: _monitored(rows, kind, metric) for kind, label in tasks.items()}
    exponents = {f"{name} of lifetimes": _monitored(rows, "lyapunov_exponent", name) for name in ("median", "largest")}
    below = {score_label(metric, _NARROW): scores, "Lyapunov exponent\n(per step)": exponents}
    below = {label: curves for label, curves in below.items() if any(len(curve) > 1 for curve in curves.values())}
    heights = [3.0, *[1.8] * len(below)]
    figure = blank(8.5, sum(heights))
    top, *others = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_losses(top, rows)
    for axes, (label, curves) in zip(others, below.items(), strict=True):
        for name, style in zip(curves, (style_of(LEARNED), _VALIDATED)):
            if len(curves[name]):
                mark(axes.plot(*curves[name].T, label=name, **style), name)
        if curves is exponents:
            axes.axhline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
        axes.set(ylabel=label)
        axes.margins(y=0.2)
    for axes in (top, *others):
        legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
        legend_entries(legend, [text.get_text() for text in legend.get_texts()])
    figure.axes[-1].set_xlabel("meta-step")
    figure.axes[-1].xaxis.get_major_locator().set_params(integer=True)
    draw_caption(figure, f"{run}: {count_text(rows[-1]['lifetimes'], 'lifetimes')} a meta-step")
    return figure


@picture
def draw_coefficients(names: Sequence[str], rows: Sequence[Mapping[str, Any]], run: str) -> Any:
    """Draw the coefficients over meta-steps, a panel a θ; those that end largest in a panel are labelled.

    Args:
        names: of the parameters, as in `path: term` where there are several θ.
        rows: of the metrics.
        run: name of the run.
    """
    panels: dict[str, dict[str, Any]] = {}
    steps, values = [row["step"] for row in rows], np.array([row["theta"] for row in rows], float)
    for name, line in zip(names, values.T, strict=True):
        panel, _, term = name.rpartition(": ")
        panels.setdefault(panel or "one θ for all projections", {})[term] = line
    size: dict[str, float] = {}
    for terms in panels.values():
        final = {term: float(np.nan_to_num(abs(line[-1]))) for term, line in terms.items()}
        size |= {term: max(size.get(term, 0.0), value / (max(final.values()) or 1.0)) for term, value in final.items()}
    largest = sorted(size, key=lambda term: -size[term])[:_LABELLED]
    figure = blank(4.4 * len(panels) + legend_width(largest), 4.0)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, terms) in zip(all_axes, panels.items(), strict=True):
        for term in (term for term in terms if term not in largest):
            axes.plot(steps, terms[term], color="0.7", linewidth=0.7, zorder=1)
        for term in (term for term in largest if term in terms):
            style = style_of(term, largest) | {"markevery": _every(len(steps))}
            mark(axes.plot(steps, terms[term], zorder=2, **style), term)
        axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
        axes.set(xlabel="meta-step", ylabel="coefficient (Δw per unit of the term)", title=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
    lines = [all_axes[0].plot([], [], label=typeset(term), **style_of(term, largest))[0] for term in largest]
    if len(size) > _LABELLED:
        lines += all_axes[0].plot([], [], color="0.7", linewidth=0.7, label=f"{len(size) - _LABELLED} others")
    legend_entries(figure.legend(handles=lines, loc="outside right center"), largest)
    draw_caption(figure, f"{run}: {count_text(len(size), 'terms')}")
    return figure


@picture
def draw_performance(
    performance: Mapping[str, Any],
    length: int,
    title: str,
    caption: str = "",
    threshold: float | None = None,
    rates: Mapping[str, float] | None = None,
) -> Any:
    """Draw the score along lifetimes, with 95 % intervals; beyond their length in a second panel.

    Args:
        performance: `steps`, `score`, and by contender `mean`, `low` and `high` at each point.
        length: of a lifetime in meta-training; without a second panel where no score changes beyond it.
        title: of the figure.
        caption: line below the axes.
        threshold: score that counts as reached.
        rates: tuned learning rates by contender.
    """
    steps, curves = np.array(performance["steps"]), performance["contenders"]
    final = {name: np.nan_to_num(np.array(curve["mean"], float)[steps == length][-1]) for name, curve in curves.items()}
    names = sorted(curves, key=lambda name: -final[name])
    labels = [f"{name}, rate {rates[name]:.2g}" if rates and name in rates else name for name in names]
    beyond = [np.array(curve["mean"], float)[steps >= length] for curve in curves.values()]
    is_longer = any(not np.allclose(means, means[0], atol=0, equal_nan=True) for means in beyond)
    figure = blank(6.5 + 2.5 * is_longer + legend_width(labels), max(3.8, 0.25 * len(names)))
    ratios = [2, 1][: 1 + is_longer]
    panels = figure.subplots(1, 1 + is_longer, squeeze=False, sharey=True, width_ratios=ratios)[0].tolist()
    for axes, inside in zip(panels, (steps <= length, steps >= length)):
        for name, label in zip(names, labels, strict=True):
            mean, low, high = (np.array(curves[name][end], float)[inside] for end in _ENDS)
            style = style_of(name, list(curves))
            band = axes.fill_between(steps[inside], low, high, color=style["color"], alpha=0.15, linewidth=0)
            lines = axes.plot(steps[inside], mean, label=label, markevery=_every(int(inside.sum())), **style)
            mark((band, *lines), name)
        axes.set(xlabel="step of the lifetime", ylim=(0, 1.03))
    draw_threshold(panels, threshold)
    panels[0].set_ylabel(score_label(performance["score"]))
    if is_longer:
        after = steps[steps >= length]
        panels[1].set_xscale("log")
        panels[1].set_xticks(after, [f"{step / length:g} ×" for step in after])
        panels[1].minorticks_off()
        panels[1].set_xlabel("multiples of a lifetime")
    figure.suptitle(title)
    legend_entries(figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center"), names)
    draw_caption(figure, caption)
    return figure


@picture
def draw_seeds(held_out: Mapping[str, Any], title: str, caption: str = "") -> Any:
    """Draw the final score of each contender over seeds, the best first, and how far the learned rule is above it.

    Args:
        held_out: of the summary of several seeds.
        title: of the figure.
        caption: line below the axes.
    """
    rows = rows_by_contender(held_out)
    names = sorted(rows, key=lambda name: -rows[name]["mean"])
    figure = blank(9.0, 1.8 + 0.38 * len(names))
    scores, differences = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    learned = np.array(rows[LEARNED]["by_seed"], float)
    for number, name in enumerate(names):
        values = np.array(rows[name]["by_seed"], float)
        _draw_row(scores, number, values, rows[name], name, names)
        if name != LEARNED:
            _draw_row(differences, number, learned - values, rows[name]["difference"], name, names)
    differences.axvline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    scores.set_yticks(range(len(names)), names)
    scores.set(xlabel=score_label(held_out["metric"]), ylim=(len(names) - 0.5, -0.5), title=title)
    differences.set(xlabel="learned − other, of the same seed", title="Difference; right of 0 learned is better")
    draw_caption(figure, caption)
    return figure


@picture
def draw_tasks(
    contenders: Mapping[str, Sequence[float]], score: str, of: str, threshold: float, caption: str = ""
) -> Any:
    """Draw the final scores of all tasks in descending order, and the share of tasks at a threshold or above.

    Args:
        contenders: mean score on each task.
        score: its name.
        of: description of the tasks.
        threshold: score that counts as reached.
        caption: line below the axes.
    """
    shares = {name: float(np.mean(np.array(values) >= threshold)) for name, values in contenders.items()}
    names = sorted(contenders, key=lambda name: (-shares[name], -np.mean(contenders[name])))
    figure, (axes,) = figure_of(1, width=9.5)
    for name in names:
        values, style = np.sort(np.array(contenders[name], float))[::-1], style_of(name, list(contenders))
        places, label = np.linspace(0, 1, len(values) + 1), f"{name}: {shares[name]:.0%} of tasks".replace("%", " %")
        ends = np.append(values, values[-1])
        mark(axes.plot(places, ends, drawstyle="steps-post", label=label, markevery=_every(len(ends)), **style), name)
    draw_threshold([axes], threshold)
    best = f"{LEARNED} reaches {threshold:g} or more on {shares[LEARNED]:.0%} of them".replace("%", " %")
    count = len(next(iter(contenders.values())))
    axes.set(xlabel="tasks, each contender's best first (fraction)", ylabel=score_label(score), xlim=(0, 1))
    axes.set(ylim=(0, 1.03), title=f"{of.capitalize()}, {count}: {best}")
    legend = figure.legend(loc="outside right center", title=f"at {threshold:g} or above", title_fontsize="small")
    legend_entries(legend, names)
    draw_caption(figure, caption)
    return figure


@picture
def draw_front(report: Mapping[str, Any], caption: str = "") -> Any:
    """Draw the held-out score of the structures of a front against their number of terms; the shortest are labelled.

    Args:
        report: `metric`, `of`, and `structures` with the `terms`, `names`, `mean`, `low` and `high` of each.
        caption: line below the axes.
    """
    rows, style = report["structures"], style_of(LEARNED)
    figure, (axes,) = figure_of(1, width=8.0)
    for row in rows:
        _, low, high = (np.array(row[end], float) for end in _ENDS)
        axes.vlines(row["terms"], low, high, color=style["color"])
        axes.plot(row["terms"], row["mean"], color=style["color"], marker=style["marker"], markersize=6)
        if row["terms"] <= 2:
            text, end = ", ".join(typeset(name) for name in row["names"]), row["low"]
            place = (row["terms"], row["mean"] if end is None else end)
            axes.annotate(text, place, xytext=(8, -4), textcoords="offset points", fontsize="small")
    axes.set_xticks(sorted({row["terms"] for row in rows}))
    axes.set(xlabel="terms of the rule (number)", ylabel=score_label(report["metric"]))
    axes.set_title(f"{report['of'].capitalize()}: rules of the front, mean and 95 % interval over tasks")
    draw_caption(figure, caption)
    return figure


def performance_notes(report: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Title, caption, threshold and rates for `draw_performance`.

    Args:
        report: of the tasks: the held-out part of a summary, or the summary of an adaptation.
        run: name of the run.
    """
    rows = report["contenders"] if "contenders" in report else rows_by_contender(report)
    rates = {name: row.get("learning_rate", row.get("rate")) for name, row in rows.items()}
    tasks, networks = (count_text(report[name], unit) for name, unit in (("tasks", "tasks"), ("lifetimes", "networks")))
    caption = f"{run}: mean and 95 % interval over {tasks}, {networks}"
    if diverged := [f"{name} {row[DIVERGED]}" for name, row in rows.items() if row[DIVERGED]]:
        caption += f"; diverged: {', '.join(diverged)}"
    return {
        "title": f"{report['of'].capitalize()}: score along the lifetime",
        "caption": caption,
        "threshold": threshold_of(report),
        "rates": {name: rate for name, rate in rates.items() if rate is not None},
    }


def seeds_notes(held_out: Mapping[str, Any], run: str) -> dict[str, str]:
    """Title and caption for `draw_seeds`; arguments as of `performance_notes`."""
    seeds, tasks = held_out["seeds"], count_text(held_out["tasks"], "tasks")
    caption = f"{run}: {seeds} seeds (dots), their mean and 95 % interval over seeds; each seed on {tasks}"
    return {"title": f"{held_out['of'].capitalize()}: score by seed", "caption": caption}


def _every(points: int) -> int:
    """Distance of the markers of a curve."""
    return max(points // _MARKERS, 1)


def _monitored(rows: Sequence[Mapping[str, Any]], field: str, name: str) -> Float[np.ndarray, "points 2"]:
    """Meta-steps at which a number was measured, and its values."""
    found = [(row["step"], (row.get(field) or {}).get(name)) for row in rows]
    return np.array([pair for pair in found if pair[1] is not None], float).reshape(-1, 2)


def _draw_losses(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the meta-loss of some meta-steps, the interquartile mean around them, and the rejected steps as ticks."""
    steps, losses = (np.array([row[name] for row in rows], float) for name in ("step", "loss"))
    some = np.unique(np.linspace(0, len(rows) - 1, _POINTS).astype(int))
    each = axes.plot(steps[some], losses[some], color="0.6", linewidth=0.6, label="each meta-step")
    mark(each, "each meta-step")
    if half := int(_WINDOW * len(rows) / 2):
        means, label = _running_mean(losses, half), f"interquartile mean of {2 * half + 1} around each"
        mark(axes.plot(steps[some], means[some], color=COLOURS[0], label=label), label)
    if len(rejected := steps[[bool(row.get("rejected")) for row in rows]]):
        ticks = {"transform": axes.get_xaxis_transform(), "linestyle": "none", "marker": "|", "markersize": 8}
        label = f"rejected: {len(rejected)}"
        mark(axes.plot(rejected, np.full(len(rejected), 0.02), color=COLOURS[1], label=label, **ticks), label)
    axes.set(ylabel="meta-loss (mean of a lifetime)", title="Meta-training: loss on training tasks")


def _running_mean(values: Float[np.ndarray, " steps"], half: int) -> Float[np.ndarray, " steps"]:
    """Interquartile mean of the finite values up to `half` places around each, fewer at the ends; NaN without any.

    A quarter is cut at either end, so that outliers do not matter. With lifetimes of several lengths a median would
    jump between their losses.
    """
    places = np.arange(len(values))
    reach = np.clip(np.minimum(places, places[::-1]), half // 3, half)
    windows = (values[max(at - width, 0) : at + width + 1] for at, width in enumerate(reach))
    kept = (window[np.isfinite(window)] for window in windows)
    return np.array([_middle_half(some).mean() if some.size else np.nan for some in kept])


def _middle_half(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " middle"]:
    cut = (len(values) + 1) // 4
    return np.sort(values)[cut : len(values) - cut]


def _draw_row(
    axes: Any, row: int, values: Float[np.ndarray, " seeds"], ends: Mapping[str, Any], name: str, names: Sequence[str]
) -> None:
    """Draw the value of each seed as a dot, and their mean and interval."""
    style = style_of(name, names)
    dots = axes.scatter(values, np.full(len(values), row + 0.22), color=style["color"], s=9, alpha=0.6, linewidths=0)
    mean, low, high = (np.array(ends[end], float) for end in _ENDS)
    interval = axes.hlines(row, low, high, color=style["color"], linewidth=2)
    middle = axes.plot(mean, row, color=style["color"], marker=style["marker"], markersize=7)
    mark((dots, interval, *middle), name)
