"""Size, style, file and errors of figures."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, update_wrapper
from importlib.metadata import distribution
from io import StringIO
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, get_args

from metarule.config.messages import first_line, warn

__all__ = ["COLOURS", "FORMATS", "FigureFormat", "Picture", "blank", "drawn_last", "figure_of", "formats", "picture"]

P = ParamSpec("P")

# Okabe & Ito's palette for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

FigureFormat = Literal["png", "svg", "pdf"]
FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)
_STYLE = Path(__file__).with_name("style.mplstyle")

# Formats of the files of figures.
_FORMATS: ContextVar[tuple[str, ...]] = ContextVar("formats", default=("png",))
# Figures that are drawn after all numbers are written.
_DEFERRED: ContextVar[list[Callable[[], None]] | None] = ContextVar("figures", default=None)


class Picture(Generic[P]):
    """Function that draws a figure, with its errors, files and style.

    The style is that of `style.mplstyle`, whatever the user's files and environment set. An error becomes a warning
    with the name of the file, so that no numbers are lost.

    Args:
        draw: draws the figure, or returns None if there is nothing to draw.
    """

    def __init__(self, draw: Callable[P, Any]) -> None:
        self._draw = draw
        update_wrapper(self, draw)

    def __call__(self, file: Path, *args: P.args, **kwargs: P.kwargs) -> None:
        """Draw the figure into a file, at the end of `drawn_last` if there is one."""
        attempt = partial(_attempt, file, partial(self._draw, *args, **kwargs), _FORMATS.get())
        deferred = _DEFERRED.get()
        if deferred is None:
            attempt()
        else:
            deferred.append(attempt)

    def svg(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Draw the figure as the text of an SVG element, without an XML declaration; empty if there is nothing."""
        with _style():
            figure = self._draw(*args, **kwargs)
            if figure is None:
                return ""
            file = StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return file.getvalue().partition("<svg")[2].join(("<svg", ""))


def picture(draw: Callable[P, Any]) -> Picture[P]:
    """Decorate a function that draws a figure; the decorated one takes a file before the arguments."""
    return Picture(draw)


@contextmanager
def formats(names: Sequence[str]) -> Iterator[None]:
    """Write the figures of a block in these formats, each beside the others: any of `FORMATS`."""
    token = _FORMATS.set(tuple(names))
    try:
        yield
    finally:
        _FORMATS.reset(token)


@contextmanager
def drawn_last() -> Iterator[None]:
    """Defer all figures to the end of a block or decorated function, after its numbers are written.

    If the block raises, none is drawn.
    """
    deferred: list[Callable[[], None]] = []
    token = _DEFERRED.set(deferred)
    try:
        yield
    finally:
        _DEFERRED.reset(token)
    for attempt in deferred:
        attempt()


def blank(width: float, height: float) -> Any:
    """Create a figure without axes; sizes in inches."""
    from matplotlib.figure import Figure  # lazy, because the import takes seconds

    return Figure(figsize=(width, height), layout="constrained")


def figure_of(panels: int, width: float = 7.0, height: float = 4.0) -> tuple[Any, Sequence[Any]]:
    """Create a figure with a row of axes, each `width` inches wide and `height` high: (figure, axes)."""
    figure = blank(width * panels, height)
    return figure, figure.subplots(1, panels, squeeze=False)[0].tolist()


def _attempt(file: Path, draw: Callable[[], Any], formats: Sequence[str]) -> None:
    try:
        with _style():
            figure = draw()
            for name in formats if figure is not None else ():
                _save(figure, file.with_suffix(f".{name}"))
    except Exception as error:  # Matplotlib and its dependencies raise many kinds
        warn(f"{file}: this figure could not be drawn: {first_line(error)}")


def _save(figure: Any, file: Path) -> None:
    """Write a figure whole or not at all, and create its folder; the bytes do not depend on the time."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f"{file.stem}.partial{file.suffix}")
    date = {".svg": "Date", ".pdf": "CreationDate"}.get(file.suffix)
    try:
        figure.savefig(temporary, metadata={date: None} if date else {})
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _style() -> Iterator[None]:
    """Use the style of figures alone."""
    matplotlib = _imported()
    settings = matplotlib.rc_params_from_file(_STYLE, use_default_template=True)
    with matplotlib.rc_context(settings):
        yield


def _imported() -> Any:
    """Import Matplotlib, without the user's variables if it cannot be imported with them."""
    try:
        return importlib.import_module("matplotlib")
    except ValueError:  # such as an unknown backend, or a settings file that is not text
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]  # partly imported modules
        before = {name: os.environ.pop(name) for name in ("MATPLOTLIBRC", "MPLBACKEND") if name in os.environ}
        settings = distribution("matplotlib").locate_file("matplotlib/mpl-data/matplotlibrc")
        os.environ["MATPLOTLIBRC"] = str(settings)
        try:
            return importlib.import_module("matplotlib")
        finally:
            del os.environ["MATPLOTLIBRC"]
            os.environ |= before
