"""Figures of an explanation: shares of terms in the variance of Δw, and Δw over pairs of variables."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np

from metarule.analysis.explanation_text import percent_text
from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import COLOURS, blank, picture

__all__ = ["draw_maps", "draw_shares"]

# Terms of a panel, panels in a row, parts that are drawn, and characters above a map.
_TERMS, _COLUMNS, _PARTS, _CHARACTERS = 12, 3, 6, 44


@picture
def draw_shares(report: Mapping[str, Any]) -> Any:
    """Draw the share of each term in the variance of Δw, one panel for each part of the synapses.

    Args:
        report: the numbers, as `metarule.explain` returns them; nothing is drawn without shares.
    """
    parts = [part for part in report["parts"] if part["shares"]][:_PARTS]
    if not parts:
        return None
    means = [{term: row["mean"] for term, row in part["shares"].items()} for part in parts]
    every = dict.fromkeys(term for one in means for term in one)
    order = sorted(every, key=lambda term: -sum(abs(one.get(term, 0.0)) for one in means))
    terms, others = order[:_TERMS], order[_TERMS:]
    labels = [typeset(term) for term in terms] + ([f"{len(others)} other terms"] if others else [])
    columns = min(len(parts), _COLUMNS)
    rows = -(-len(parts) // columns)
    figure = blank(2.2 + 3.2 * columns, (0.9 + 0.28 * len(labels)) * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    for axes, part, own in zip(panels, parts, means):
        shares = [own.get(term, 0.0) for term in terms]
        shares += [sum(own.get(term, 0.0) for term in others)] if others else []
        percent = [100 * share for share in shares]
        bars = axes.barh(labels, percent, color=[COLOURS[share < 0] for share in shares])
        axes.bar_label(bars, [percent_text(share) for share in shares], padding=3, fontsize="small")
        axes.axvline(0, color="0.5", linewidth=0.6)
        axes.set_title(f"{part['part']}\n(standard deviation of Δw: {part['deviation']:.2g})", fontsize="medium")
        axes.margins(x=0.25)
        axes.tick_params(labelbottom=True)
    panels[0].invert_yaxis()
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    figure.supxlabel("share of the variance of Δw (%)", fontsize="medium")
    return figure


@picture
def draw_maps(report: Mapping[str, Any], group: str = "") -> Any:
    """Draw Δw over pairs of variables, with some of the visited states.

    Args:
        report: the numbers, as `metarule.explain` returns them; nothing is drawn without maps of the group.
        group: path or projection with its own θ; empty where θ is shared.
    """
    maps = [one for one in report["maps"] if one["group"] == group]
    if not maps:
        return None
    columns = min(len(maps), _COLUMNS)
    rows = -(-len(maps) // columns)
    figure = blank(3.6 * columns, 3.0 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    means: dict[str, float] = {}
    for axes, one in zip(panels, maps):
        x, y, change = (np.array(one[name], float) for name in ("x_values", "y_values", "change"))
        most = np.abs(change).max() or 1.0
        extent = (x[0], x[-1], y[0], y[-1])
        style = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, "interpolation": "bilinear"}
        image = axes.imshow(change, origin="lower", aspect="auto", extent=extent, **style)
        states = np.array([one["x_visited"], one["y_visited"]], float)
        inside = (states >= [[x[0]], [y[0]]]) & (states <= [[x[-1]], [y[-1]]])
        axes.scatter(*states[:, inside.all(axis=0)], color="black", s=5, alpha=0.4, linewidths=0, clip_on=False)
        axes.set(xlim=extent[:2], ylim=extent[2:], xlabel=one["x"], ylabel=one["y"])
        figure.colorbar(image, ax=axes, label="Δw")
        means |= one["means"]
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    listed = ", ".join(f"{name}\N{NO-BREAK SPACE}{value:.2g}".replace("-", "−") for name, value in means.items())
    title = f"Δw{group and f' of {group}'}, and visited states (dots)"
    if means:
        title += f"\n{fill(f'variables that are not on the axes have their means: {listed}', _CHARACTERS * columns)}"
    figure.suptitle(title, fontsize="medium")
    return figure
