"""Figures of a run: meta-loss, coefficients, performance, seeds, tasks and structures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import COLOURS, figure_of, picture

__all__ = ["draw_coefficients", "draw_front", "draw_meta_loss", "draw_performance", "draw_seeds", "draw_tasks"]

_LABELLED = 6
# Characters of a name beside the axes, at most; longer ones are below them.
_BESIDE = 24
_STYLES = ("-", "--", "-.", ":")


@picture
def draw_meta_loss(steps: Sequence[int], losses: Sequence[float | None]) -> Any:
    """Draw the meta-loss over meta-steps, with its running median."""
    figure, (axes,) = figure_of(1)
    values = np.array(losses, float)
    axes.plot(steps, values, color=COLOURS[5], linewidth=0.7, label="each meta-step")
    width = max(len(values) // 20, 1)
    if width > 1:
        windows = np.lib.stride_tricks.sliding_window_view(values, width)
        medians = np.nanmedian(windows, axis=1)
        axes.plot(steps[width - 1 :], medians, color=COLOURS[0], label=f"median of the last {width}")
        axes.legend()
    axes.set(xlabel="meta-step", ylabel="meta-loss", title="Meta-loss on training tasks")
    axes.set_ylim(bottom=0)
    return figure


@picture
def draw_coefficients(steps: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Any:
    """Draw the coefficients over meta-steps, by title and term; the largest final ones are labelled."""
    figure, all_axes = figure_of(len(panels), width=5.6)
    for axes, (title, terms) in zip(all_axes, panels.items(), strict=True):
        largest = sorted(terms, key=lambda term: -abs(terms[term][-1]))[:_LABELLED]
        for term in set(terms) - set(largest):
            axes.plot(steps, terms[term], color="0.8", linewidth=0.8)
        for colour, term in zip(COLOURS, largest):
            axes.plot(steps, terms[term], color=colour, label=typeset(term))
        if len(terms) > _LABELLED:
            axes.plot([], [], color="0.8", label=f"{len(terms) - _LABELLED} others")
        axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
        axes.set(xlabel="meta-step", ylabel="coefficient", title=title)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@picture
def draw_performance(performance: Mapping[str, Any], length: int, title: str) -> Any:
    """Draw the score along lifetimes, with 95 % intervals; beyond their length in a second panel.

    Args:
        performance: `steps`, `score`, and by contender `mean`, `low` and `high` at each point.
        length: of a lifetime in meta-training.
        title: of the figure.
    """
    steps = np.array(performance["steps"])
    beyond = bool(steps[-1] > length)
    names = list(performance["contenders"])
    below = max(map(len, names)) > _BESIDE
    figure, panels = figure_of(1 + beyond, height=4.0 + 0.25 * len(names) * below)
    for axes, inside in zip(panels, (steps <= length, steps >= length)):
        for number, (name, curve) in enumerate(performance["contenders"].items()):
            mean, low, high = (np.array(curve[end], float)[inside] for end in ("mean", "low", "high"))
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _STYLES[number % len(_STYLES)]}
            axes.plot(steps[inside], mean, label=name, **style)
            axes.fill_between(steps[inside], low, high, color=style["color"], alpha=0.2, linewidth=0)
        axes.set(xlabel="steps", ylabel=performance["score"], ylim=(0, 1.02))
    if beyond:
        panels[-1].set_xscale("log")
        panels[-1].set_xticks(steps[steps >= length], [f"{step / length:g} ×" for step in steps[steps >= length]])
        panels[-1].minorticks_off()
        panels[-1].set_xlabel("steps, in lengths of a lifetime")
    figure.suptitle(title, fontsize="medium")
    if below:
        figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside lower center")
    else:
        panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@picture
def draw_seeds(contenders: Mapping[str, Sequence[float]], score: str, title: str) -> Any:
    """Draw the final score of each seed, one line a seed, one column a contender."""
    figure, (axes,) = figure_of(1)
    columns = np.array(list(contenders.values()))
    axes.plot(columns, color="0.8", linewidth=0.8, zorder=0)
    for number, values in enumerate(columns):
        colour = COLOURS[number % len(COLOURS)]
        axes.scatter(np.full(len(values), number), values, color=colour, s=18)
        axes.hlines(values.mean(), number - 0.2, number + 0.2, color=colour)
    axes.set_xticks(range(len(contenders)), contenders)
    axes.set(ylabel=score, title=title)
    return figure


@picture
def draw_tasks(contenders: Mapping[str, Sequence[float]], score: str, title: str) -> Any:
    """Draw the final scores of all tasks as cumulative distributions, one a contender."""
    figure, (axes,) = figure_of(1)
    for colour, (name, values) in zip(COLOURS, contenders.items()):
        axes.ecdf(values, color=colour, label=name)
    count = len(next(iter(contenders.values())))
    axes.set(xlabel=score, ylabel="share of tasks up to this score", title=f"{title}, {count} tasks")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@picture
def draw_front(rows: Sequence[Mapping[str, Any]], score: str, title: str) -> Any:
    """Draw the held-out score of each structure against its number of terms; the shortest rules are labelled.

    Rows hold `terms`, `mean`, `low`, `high` and `names` of a structure.
    """
    figure, (axes,) = figure_of(1, width=8.0)
    sizes, means = ([row[name] for row in rows] for name in ("terms", "mean"))
    axes.plot(sizes, means, color="0.8", zorder=0)
    low, high = (np.array([row[end] for row in rows], float) for end in ("low", "high"))
    axes.vlines(sizes, low, high, color=COLOURS[0])
    axes.scatter(sizes, means, color=COLOURS[0], s=24)
    for row in (row for row in rows if row["terms"] <= 2):
        text = ", ".join(typeset(name) for name in row["names"])
        axes.annotate(text, (row["terms"], row["mean"]), xytext=(8, -12), textcoords="offset points", fontsize="small")
    axes.set_xticks(sorted({row["terms"] for row in rows}))
    axes.set(xlabel="terms of the rule", ylabel=score, title=title)
    return figure
