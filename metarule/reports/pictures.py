"""Figures that only reports have: the course of meta-training, and coefficients with their spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from metarule.analysis.statistics import interval
from metarule.reports.svg import CURVE
from metarule.rules.terms import typeset
from metarule.runs.figures.canvas import COLOURS, blank, figure_of, picture

__all__ = ["draw_spread", "draw_training"]

# Points of a curve, at most; a running median keeps what is left out.
_POINTS = 400
# Coefficients that are drawn, at most.
_LARGEST = 30
# Characters of a name beside the axes, at most.
_BESIDE = 40
_MEAN = "mean, 95 % interval"


@picture
def draw_training(rows: Sequence[Mapping[str, Any]], metric: str) -> Any:
    """Draw meta-loss, scores on held-out and validation tasks, and the Lyapunov exponent over meta-steps.

    Args:
        rows: of the metrics.
        metric: primary metric.
    """
    rows = [row for row in rows if row.get("loss") is not None]
    scores = {name: _points(rows, name, metric) for name in ("held_out", "validation")}
    scores = {name: points for name, points in scores.items() if len(points)}
    exponents = {name: _points(rows, "lyapunov_exponent", name) for name in ("median", "largest")}
    exponents = {name: points for name, points in exponents.items() if len(points)}
    if not rows:
        return None
    panels = 1 + bool(scores) + bool(exponents)
    figure = blank(7.0, 1.4 + 1.7 * panels)
    axes, *others = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0].tolist()
    _draw_losses(axes, rows)
    if scores:
        _draw_points(below := others.pop(0), scores, {"held_out": "held-out tasks", "validation": "validation tasks"})
        below.set(ylabel=metric)
    if exponents:
        _draw_points(below := others.pop(0), exponents, {name: f"{name} of lifetimes" for name in exponents})
        below.axhline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
        below.set(ylabel="Lyapunov exponent\n(per step)")
    figure.axes[-1].set(xlabel="meta-step")
    return figure


@picture
def draw_spread(values: Mapping[str, Sequence[float]]) -> Any:
    """Draw the largest coefficients: a dot a seed, and with several seeds their mean and its 95 % interval.

    Args:
        values: of each seed, by name of the coefficient.
    """
    names = sorted(values, key=lambda name: -abs(float(np.mean(values[name]))))[:_LARGEST]
    if not names:
        return None
    figure, (axes,) = figure_of(1, width=7.0, height=1.3 + 0.26 * len(names))
    count = max(len(values[name]) for name in names)
    for row, name in enumerate(names):
        seeds = np.array(values[name], float)
        size, colour, label = (26, COLOURS[0], "coefficient") if count == 1 else (12, "0.5", "each seed")
        dots = {"s": size, "color": colour, "gid": CURVE + label, "label": None if row else label}
        axes.scatter(seeds, np.full(len(seeds), row), **dots)
        if count > 1:
            mean, low, high = interval(seeds)
            whole = {"color": COLOURS[0], "gid": CURVE + _MEAN, "zorder": 3}
            axes.plot([mean], [row], "D", markersize=4, label=None if row else _MEAN, **whole)
            axes.hlines(row, low, high, linewidth=2, **whole)
    axes.axvline(0, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(names)), [_short(typeset(name)) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="coefficient")
    if count > 1:
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _BESIDE else f"{name[: _BESIDE - 2]} …"


def _points(rows: Sequence[Mapping[str, Any]], field: str, name: str) -> Float[np.ndarray, "points 2"]:
    """Meta-steps, and the values that were measured there."""
    found = [(row["step"], (row.get(field) or {}).get(name)) for row in rows]
    return np.array([pair for pair in found if pair[1] is not None], float).reshape(-1, 2)


def _draw_losses(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    steps, losses = (np.array([row[name] for row in rows], float) for name in ("step", "loss"))
    some = np.unique(np.linspace(0, len(rows) - 1, _POINTS).astype(int))
    style = {"color": "0.7", "linewidth": 0.8}
    axes.plot(steps[some], losses[some], label="each meta-step", gid=f"{CURVE}each meta-step", **style)
    width = max(len(losses) // 20, 1)
    if width > 1:
        medians = np.median(np.lib.stride_tricks.sliding_window_view(losses, width), axis=1)
        later = some[some >= width - 1]
        label = f"median of the last {width}"
        axes.plot(steps[later], medians[later - width + 1], color=COLOURS[0], label=label, gid=CURVE + label)
    rejected = np.array([bool(row.get("rejected")) for row in rows])
    if rejected.any():
        label = f"rejected: {rejected.sum()}"
        axes.plot(
            steps[rejected], losses[rejected], "x", color=COLOURS[1], markersize=5, label=label, gid=CURVE + label
        )
    axes.set(ylabel="meta-loss")
    _legend(axes)


def _draw_points(axes: Any, curves: Mapping[str, Float[np.ndarray, "points 2"]], labels: Mapping[str, str]) -> None:
    for number, (name, points) in enumerate(curves.items()):
        style = {"color": COLOURS[number], "marker": "os"[number], "linestyle": ("-", "--")[number], "markersize": 4}
        axes.plot(*points.T, label=labels[name], gid=CURVE + labels[name], **style)
    _legend(axes)


def _legend(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
