"""Figure of the times of implementations, of the cost of work, and of starts."""

from collections.abc import Mapping, Sequence
from typing import Any

from metarule.runs.figures.canvas import COLOURS, blank, picture
from metarule.runs.figures.methods import style_of

__all__ = ["draw_speeds"]

_Rows = Sequence[Mapping[str, Any]]

_STARTS = {"off": COLOURS[1], "cold": COLOURS[5], "warm": COLOURS[0]}
_UNITS = {"ratio": "time over that of C (ratio)", "ms": "time (ms)"}


@picture
def draw_speeds(implementations: _Rows, costs: _Rows, starts: _Rows) -> Any:
    """Draw rows of `compared` as times over that of C, of `cost_curve` against work, and of `starts`."""
    forms = list(dict.fromkeys(row["form"] for row in implementations))
    heights = (0.28 * len(forms) + 1.2) * bool(forms), 3.6 * bool(costs or starts)
    figure = blank(13.0, max(sum(heights), 1.0))
    parts = iter(
        figure.subfigures(
            sum(map(bool, heights)) or 1, 1, squeeze=False, height_ratios=[*filter(None, heights)] or [1]
        )[:, 0]
    )
    if forms:
        _draw_implementations(next(parts).subplots(), implementations, forms)
    if count := 2 * bool(costs) + bool(starts):
        part = next(parts)
        panels = part.subplots(1, count, squeeze=False)[0]
        if costs:
            _draw_costs(panels[:2], costs)
            part.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
        if starts:
            _draw_starts(panels[-1], starts)
    return figure


def _draw_implementations(axes: Any, rows: _Rows, forms: Sequence[str]) -> None:
    """Draw a row an implementation, and a mark a problem."""
    measure = "ratio" if any(row["ratio"] for row in rows) else "ms"
    # Problems without C are left out beside those with C.
    compared = [row for row in rows if row[measure]]
    sizes = list(dict.fromkeys(row["size"] for row in compared))
    for size in sizes:
        of_size, style = [row for row in compared if row["size"] == size], style_of(size, sizes) | {"linestyle": "none"}
        first = of_size[0]
        label = f"{size}, {first['steps']} steps, {first['lifetimes']} lifetimes"
        places = [forms.index(row["form"]) for row in of_size]
        axes.plot([row[measure] for row in of_size], places, markersize=7, alpha=0.85, label=label, **style)
    axes.set_xscale("log")
    for place, form in enumerate(forms):
        axes.axhline(place, color="0.85", linewidth=0.6, zorder=0)
        if not any(row["form"] == form for row in compared):
            note = next(row["note"] for row in rows if row["form"] == form).partition(":")[0]
            axes.text(
                0.01, place, note, transform=axes.get_yaxis_transform(), va="center", fontsize="small", color="0.45"
            )
    axes.set_yticks(range(len(forms)), forms)
    axes.set(ylim=(len(forms) - 0.5, -0.5), xlabel=_UNITS[measure], title="Gradient of θ: time of each implementation")
    if sizes:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="network", title_fontsize="small")


def _draw_costs(panels: Sequence[Any], rows: _Rows) -> None:
    """Draw time and memory against the amount of work, in multiples of the smallest."""
    times, memory = panels
    names = list(dict.fromkeys(row["axis"] for row in rows))
    for name in names:
        line = [row for row in rows if row["axis"] == name]
        first, last = line[0]["point"], line[-1]["point"]
        multiples, style = [row["point"] / first for row in line], style_of(name, names)
        label = f"{name}: {first:,} to {last:,}, µs a {line[0]['item']}"
        times.plot(multiples, [row["microseconds"] for row in line], label=label, **style)
        memory.plot(multiples, [row["temporary_bytes"] / 2**20 for row in line], **style)
    for axes, label, title in ((times, "time (µs an item)", "Time"), (memory, "temporary memory (MiB)", "Memory")):
        axes.set(xscale="log", yscale="log", xlabel="work (multiples of the smallest)", ylabel=label)
        axes.set_title(f"{title} against work")


def _draw_starts(axes: Any, rows: _Rows) -> None:
    width = 0.8 / len(_STARTS)
    for number, (kind, colour) in enumerate(_STARTS.items()):
        places = [place + (number - 1) * width for place in range(len(rows))]
        bars = axes.bar(places, [row[kind] for row in rows], width, color=colour, label=f"cache {kind}")
        axes.bar_label(bars, fmt="%.1f", fontsize="small")
    axes.set_xticks(range(len(rows)), [row["config"] for row in rows])
    axes.set(ylabel="first meta-step after (s)", title="Start of a command")
    axes.legend()
