"""Figures of a run directory that could be drawn again from its networks alone; pages use them as they are."""

from base64 import b64encode
from pathlib import Path

from markupsafe import Markup

from metarule.config.toml import read_bytes
from metarule.reports.content import Figure, figure
from metarule.reports.svg import width_style
from metarule.runs.directory import FIGURES

__all__ = ["stored_figure"]

# Bytes of the largest file that is used.
_LARGEST = 2**19
# Dots of an inch of an image, as in the style of figures.
_DOTS = 150


def stored_figure(path: Path, file: str, name: str, caption: str) -> tuple[Figure, ...]:
    """Figure from a file: an SVG file where one was written, else an image; nothing without a file.

    Args:
        path: directory of the run.
        file: name without its ending.
        name: unique in the page.
        caption: below the figure.
    """
    svg, png = (path / FIGURES / f"{file}.{ending}" for ending in ("svg", "png"))
    if svg.is_file() and svg.stat().st_size <= _LARGEST:
        return figure(name, caption, lambda: read_bytes(svg, _LARGEST).decode())
    if png.is_file() and png.stat().st_size <= _LARGEST:
        data = read_bytes(png, _LARGEST)
        points = 72 / _DOTS * int.from_bytes(data[16:20])  # the width in the header
        text = '<img class="on-white" alt="{}" style="{}" src="data:image/png;base64,{}">'
        return (Figure(caption, Markup(text).format(caption, width_style(points), b64encode(data).decode())),)
    return ()
