"""Figure of the times of implementations, of the cost of work, and of starts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarule.runs.figures.canvas import COLOURS, blank, picture

__all__ = ["draw_speeds"]

_Rows = Sequence[Mapping[str, Any]]

_FAMILIES = {
    "C": COLOURS[6],
    "metarule, kernel": COLOURS[0],
    "metarule, XLA": COLOURS[4],
    "literature": COLOURS[1],
    "numpy": COLOURS[2],
}
_TORCH = COLOURS[3]
_STARTS = {"off": COLOURS[4], "cold": COLOURS[5], "warm": COLOURS[0]}


@picture
def draw_speeds(implementations: _Rows, costs: _Rows, starts: _Rows) -> Any:
    """Draw rows of `compared` as times over that of C, of `cost_curve` against work, and of `starts`."""
    # Problems without C have no bars, and no panel beside those with C.
    compared = [row for row in implementations if row["ratio"]] or implementations
    sizes = list(dict.fromkeys(row["size"] for row in compared))
    options = list(dict.fromkeys(row["axis"].partition(",")[0] for row in costs))
    upper, lower = max(len(sizes) + bool(starts), 1), max(len(options), 1)
    figure = blank(3.6 * max(upper, lower, 2), 9.5)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    panels = top.subplots(1, upper, squeeze=False)[0]
    ratios = [row["ratio"] for row in implementations if row["ratio"]]
    # With room for the text at the end of the longest bar.
    limits = min([0.5, *(ratio / 2 for ratio in ratios)]), 5 * max([2.0, *ratios])
    for axes, size in zip(panels, sizes, strict=False):
        rows = [row for row in implementations if row["size"] == size]
        _draw_implementations(axes, rows, limits, named=axes is panels[0])
    if starts:
        _draw_starts(panels[-1], starts)
    pairs = bottom.subplots(2, lower, squeeze=False, sharex="col").T
    for axes, option in zip(pairs, options, strict=False):
        _draw_costs(axes, option, [row for row in costs if row["axis"].partition(",")[0] == option])
    return figure


def _draw_implementations(axes: Any, rows: _Rows, limits: tuple[float, float], named: bool) -> None:
    colours = [_colour(row["form"]) for row in rows]
    axes.barh(range(len(rows)), [row["ratio"] or limits[0] for row in rows], color=colours)
    axes.set_xscale("log")
    axes.set_xlim(limits)
    for place, row in enumerate(rows):
        text = f"{row['ms']:.3g} ms" if row["ms"] else row["note"].partition(":")[0]
        if ratio := row["ratio"]:
            text = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}"
        axes.text(ratio or limits[0], place, f" {text}", va="center", fontsize="small")
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_yticks(range(len(rows)), [row["form"] for row in rows] if named else [""] * len(rows))
    first = rows[0]
    axes.set_title(f"{first['size']}, {first['steps']} steps, {first['lifetimes']} lifetimes", fontsize="medium")
    axes.set_xlabel("time over that of C")


def _colour(form: str) -> str:
    return next((colour for family, colour in _FAMILIES.items() if form.startswith(family)), _TORCH)


def _draw_starts(axes: Any, rows: _Rows) -> None:
    width = 0.8 / len(_STARTS)
    for number, (kind, colour) in enumerate(_STARTS.items()):
        places = [place + (number - 1) * width for place in range(len(rows))]
        bars = axes.bar(places, [row[kind] for row in rows], width, color=colour, label=f"cache {kind}")
        axes.bar_label(bars, fmt="%.1f", fontsize="small")
    axes.set_xticks(range(len(rows)), [row["config"] for row in rows])
    axes.set_ylabel("seconds to the first meta-step")
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(_STARTS))


def _draw_costs(pair: Sequence[Any], option: str, rows: _Rows) -> None:
    times, memory = pair
    for colour, name in zip(COLOURS, dict.fromkeys(row["axis"] for row in rows)):
        line = [row for row in rows if row["axis"] == name]
        points = [row["point"] for row in line]
        style = {"color": colour, "marker": "o", "label": name.partition(", ")[2]}
        times.plot(points, [row["microseconds"] for row in line], **style)
        memory.plot(points, [row["temporary_bytes"] / 2**20 for row in line], **style)
    points = sorted({row["point"] for row in rows})
    for axes in pair:
        axes.set_xscale("log")
        axes.set_yscale("log")
        # At powers of ten, so that slopes are comparable.
        low, high = np.log10(axes.get_ylim())
        axes.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
        axes.set_xticks(points, [f"{point:,}" for point in points])
        axes.set_xticks([], minor=True)
    times.set_ylabel(f"µs a {rows[0]['item']}")
    memory.set_ylabel("temporary MiB")
    memory.set_xlabel(option)
    times.legend(fontsize="small")
