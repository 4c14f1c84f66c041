"""Size, style, file and errors of figures."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from metarule.config.messages import first_line, warn

__all__ = ["COLOURS", "blank", "drawn_last", "figure_of", "picture", "save"]

P = ParamSpec("P")

# Okabe & Ito's palette for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

# Figures that are drawn after all numbers are written.
_DEFERRED: ContextVar[list[Callable[[], None]] | None] = ContextVar("figures", default=None)


def picture(draw: Callable[Concatenate[Path, P], None]) -> Callable[Concatenate[Path, P], None]:
    """Decorate a function that draws a figure into the file that is its first argument.

    The style is Matplotlib's default, whatever the user's files and environment set. An error becomes a warning with
    the name of the file, so that no numbers are lost.
    """

    @wraps(draw)
    def drawn(file: Path, *args: P.args, **kwargs: P.kwargs) -> None:
        attempt = partial(_attempt, file, partial(draw, file, *args, **kwargs))
        deferred = _DEFERRED.get()
        if deferred is None:
            attempt()
        else:
            deferred.append(attempt)

    return drawn


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
    axes = figure.subplots(1, panels, squeeze=False)[0].tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, file: Path) -> None:
    """Write a figure whole or not at all, and create its folder."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f"{file.stem}.partial{file.suffix}")
    try:
        figure.savefig(temporary, dpi=150)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _attempt(file: Path, draw: Callable[[], None]) -> None:
    try:
        matplotlib = _imported()
        with matplotlib.rc_context(matplotlib.rcParamsDefault):
            draw()
    except Exception as error:  # Matplotlib and its dependencies raise many kinds
        warn(f"{file}: this figure could not be drawn: {first_line(error)}")


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
