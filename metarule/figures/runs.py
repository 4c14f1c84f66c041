"""Pictures of a run, drawn from what it left on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metarule.figures.canvas import COLOURS, figure_of, picture, save

__all__ = ["draw_coefficients", "draw_meta_loss", "draw_performance", "draw_seeds", "draw_tasks"]

_NAMED = 6


@picture
def draw_meta_loss(file: Path, steps: Sequence[int], losses: Sequence[float | None]) -> None:
    """Meta-loss over meta-steps, with its running median."""
    figure, (axes,) = figure_of(1)
    values = np.array(losses, float)
    axes.plot(steps, values, color=COLOURS[5], linewidth=0.7, label="each meta-step")
    width = max(len(values) // 20, 1)
    if width > 1:
        windows = np.lib.stride_tricks.sliding_window_view(values, width)
        axes.plot(
            steps[width - 1 :], np.nanmedian(windows, axis=1), color=COLOURS[0], label=f"median of the last {width}"
        )
        axes.legend(frameon=False)
    axes.set(xlabel="meta-step", ylabel="meta-loss", title="Meta-loss on training tasks")
    axes.set_ylim(bottom=0)
    save(figure, file)


@picture
def draw_coefficients(file: Path, steps: Sequence[int], named: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Coefficients of θ over meta-steps, one panel a projection; the largest at the end are named.

    Args:
        file: where the picture goes.
        steps: meta-steps.
        named: by title of the panel, values over meta-steps by term.
    """
    figure, panels = figure_of(len(named), width=5.6)
    for axes, (title, terms) in zip(panels, named.items(), strict=True):
        largest = sorted(terms, key=lambda term: -abs(terms[term][-1]))[:_NAMED]
        for term in set(terms) - set(largest):
            axes.plot(steps, terms[term], color="0.8", linewidth=0.8)
        for colour, term in zip(COLOURS, largest):
            axes.plot(steps, terms[term], color=colour, label=term.replace("*", "·"))
        if len(terms) > _NAMED:
            axes.plot([], [], color="0.8", label=f"{len(terms) - _NAMED} others")
        axes.axhline(0, color="0.5", linewidth=0.6, zorder=0)
        axes.set(xlabel="meta-step", ylabel="coefficient", title=title)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)


@picture
def draw_performance(
    file: Path,
    presentations: Sequence[int],
    contenders: Mapping[str, Mapping[str, Sequence[float]]],
    score: str,
    met: str,
) -> None:
    """Score over presentations on held-out tasks, with 95 % intervals.

    Args:
        file: where the picture goes.
        presentations: number of presentations at each point.
        contenders: by name, `mean`, `low` and `high` at each point.
        score: what is drawn.
        met: over what the intervals are taken, such as `128 new tasks`.
    """
    figure, (axes,) = figure_of(1)
    for colour, (name, curve) in zip(COLOURS, contenders.items()):
        axes.plot(presentations, curve["mean"], color=colour, label=name)
        axes.fill_between(presentations, curve["low"], curve["high"], color=colour, alpha=0.2, linewidth=0)
    axes.set(
        xlabel="presentations",
        ylabel=score,
        title=f"Mean and 95 % interval over {met}",
        ylim=(0, 1.02),
    )
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)


@picture
def draw_seeds(file: Path, contenders: Mapping[str, Sequence[float]], score: str) -> None:
    """Final held-out score of each seed, one line a seed, one column a contender."""
    figure, (axes,) = figure_of(1)
    columns = np.array(list(contenders.values()))
    axes.plot(columns, color="0.8", linewidth=0.8, zorder=0)
    for number, (colour, values) in enumerate(zip(COLOURS, columns)):
        axes.scatter(np.full(len(values), number), values, color=colour, s=18)
        axes.hlines(values.mean(), number - 0.2, number + 0.2, color=colour)
    axes.set_xticks(range(len(contenders)), contenders)
    axes.set(ylabel=score, title=f"Held-out tasks: {columns.shape[1]} seeds (dots) and their mean (bars)")
    save(figure, file)


@picture
def draw_tasks(file: Path, contenders: Mapping[str, Sequence[float]], score: str) -> None:
    """Final scores of all tasks, as a cumulative distribution a contender."""
    figure, (axes,) = figure_of(1)
    for colour, (name, values) in zip(COLOURS, contenders.items()):
        axes.ecdf(values, color=colour, label=name)
    count = len(next(iter(contenders.values())))
    axes.set(xlabel=score, ylabel="share of tasks with at most this score", title=f"{count} new tasks")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)
