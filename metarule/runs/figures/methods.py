"""Style of each method, the same in all figures, and names of its curves in SVG files."""

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

__all__ = ["CURVE", "KNOWN", "draw_threshold", "legend_entries", "legend_width", "mark", "style_of"]

# Start of the id of the elements of a curve.
CURVE = "curve:"
# Visible on white and on black, each with a contrast of 3 or more; blue to grey of Okabe & Ito's palette, some darker.
_BLUE, _VERMILION, _GREEN, _OCHRE = "#0072B2", "#D55E00", "#009E73", "#B07D00"
_VIOLET, _PINK, _SKY, _GREY, _TEXT = "#8A63D2", "#C8649C", "#2E93CC", "#808080", "#000000"
_DOT_DASH, _LONG, _TWICE, _SHORT = (0, (4, 1, 1, 1)), (0, (8, 2)), (0, (6, 1, 1, 1, 1, 1)), (0, (2, 1))

# Colour, line and marker; those that are often in one figure differ in each of the three.
KNOWN: dict[str, tuple[str, Any, str]] = {
    "learned": (_BLUE, "-", "o"),
    "delta": (_VERMILION, "--", "s"),
    "feedback_alignment": (_GREEN, "-.", "^"),
    "backprop": (_OCHRE, _LONG, "D"),
    "adam": (_VIOLET, _DOT_DASH, "v"),
    "momentum": (_PINK, _TWICE, "P"),
    "hebb": (_SKY, ":", "<"),
    "oja": (_GREY, _SHORT, ">"),
    "anti_hebb": (_SKY, "-.", "p"),
    "covariance": (_PINK, "--", "h"),
    "bcm": (_OCHRE, ":", "d"),
    "three_factor": (_GREEN, _LONG, "X"),
    "rescorla_wagner": (_VERMILION, "-.", "D"),
    "sutton_barto": (_GREEN, "--", "v"),
    "reward_hebb": (_VERMILION, _LONG, "^"),
    "reinforce": (_GREEN, _DOT_DASH, "s"),
    "q_learning": (_OCHRE, "--", "p"),
    "ideal_observer": (_TEXT, "-.", "*"),
    "initial": (_GREY, ":", "X"),
    "learned, adapting": (_BLUE, "-", "o"),
    "learned, frozen": (_BLUE, "--", "v"),
    "random, adapting": (_GREY, "-.", "X"),
    "delta, adapting": (_VERMILION, _LONG, "s"),
    "delta, frozen": (_VERMILION, ":", "^"),
}


def style_of(name: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Style of a method: `color`, `linestyle` and `marker`, which tell it apart also without its colour.

    Args:
        name: of a contender, which always has the same style, or another name, which gets one that is left.
        names: all names of the figure; other names have different styles, in this order, while there are enough.
    """
    if name not in KNOWN:
        left = list(dict.fromkeys(style for known, style in KNOWN.items() if known not in names))
        others = [other for other in names if other not in KNOWN]
        place = others.index(name) if name in others else crc32(name.encode())
        style = left[place % len(left)]
    else:
        style = KNOWN[name]
    return dict(zip(("color", "linestyle", "marker"), style, strict=True))


def mark(artists: Iterable[Any], name: str) -> None:
    """Name all lines, bands and dots of a curve `curve:<name>`, which is the id of their elements in an SVG file."""
    for artist in artists:
        artist.set_gid(CURVE + name)


def legend_entries(legend: Any, names: Sequence[str]) -> None:
    """Mark the first entries of a legend as those of curves, in their order."""
    for handle, text, name in zip(legend.legend_handles, legend.get_texts(), names):
        mark((handle, text), name)


def legend_width(labels: Iterable[str]) -> float:
    """Width of a legend with some labels beside the axes, in inches, about."""
    return 0.6 + 0.075 * max(map(len, labels))


def draw_threshold(panels: Sequence[Any], threshold: float | None) -> None:
    """Draw a threshold of the vertical axis as a thin dashed line, with its number on the right of the last panel."""
    if threshold is None:
        return
    for axes in panels:
        axes.axhline(threshold, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    where = {"transform": axes.get_yaxis_transform(), "ha": "left", "va": "center"}
    axes.text(1.01, threshold, f"{threshold:.3g}", color="0.45", fontsize="small", **where)
