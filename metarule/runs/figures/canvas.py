"""What every figure shares: size, style, file, and what becomes of one that cannot be drawn."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from metarule.config.messages import first_line, warn

__all__ = ["COLOURS", "blank", "drawn_last", "figure_of", "picture", "save"]

P = ParamSpec("P")

# Okabe & Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

# Variables by which a user's settings reach Matplotlib while it is imported.
_RC, _BACKEND = "MATPLOTLIBRC", "MPLBACKEND"

# Figures that wait until all numbers are written.
_WAITING: ContextVar[list[Callable[[], None]] | None] = ContextVar("figures", default=None)


def picture(draw: Callable[Concatenate[Path, P], None]) -> Callable[Concatenate[Path, P], None]:
    """Decorate a function that draws a figure: it looks the same everywhere, and no result is lost over it.

    Args:
        draw: draws into the file that is its first argument.

    Returns:
        The same in Matplotlib's default style, whatever the user's files and environment say. An error becomes a
        complaint that names the file: numbers are worth more than their figures.
    """

    @wraps(draw)
    def drawn(file: Path, *args: P.args, **kwargs: P.kwargs) -> None:
        attempt = partial(_attempt, file, partial(draw, file, *args, **kwargs))
        ended_lifetime = _WAITING.get()
        if ended_lifetime is None:
            attempt()
        else:
            ended_lifetime.append(attempt)

    return drawn


@contextmanager
def drawn_last() -> Iterator[None]:
    """Put off all figures until a block, or a function that is decorated with it, has written its numbers.

    Yields:
        Figures that are asked for within it are drawn at its end, if nothing is raised.
    """
    ended_lifetime: list[Callable[[], None]] = []
    token = _WAITING.set(ended_lifetime)
    try:
        yield
    finally:
        _WAITING.reset(token)
    for attempt in ended_lifetime:
        attempt()


def blank(width: float, height: float) -> Any:
    """A figure without axes; sizes in inches."""
    from matplotlib.figure import Figure  # seconds to import: only where a picture is drawn

    return Figure(figsize=(width, height), layout="constrained")


def figure_of(panels: int, width: float = 7.0, height: float = 4.0) -> tuple[Any, Sequence[Any]]:
    """A figure and its axes, side by side.

    Args:
        panels: how many.
        width: of one, in inches.
        height: in inches.

    Returns:
        (figure, axes).
    """
    figure = blank(width * panels, height)
    axes = figure.subplots(1, panels, squeeze=False)[0].tolist()
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, file: Path) -> None:
    """Write a figure whole or not at all, its folder included."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f"{file.stem}.partial{file.suffix}")
    try:
        figure.savefig(temporary, dpi=150)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _attempt(file: Path, draw: Callable[[], None]) -> None:
    try:
        with _default_style():
            draw()
    except Exception as error:  # Matplotlib and what it stands on raise every kind
        warn(f"{file}: this figure could not be drawn: {first_line(error)}")


@contextmanager
def _default_style() -> Iterator[None]:
    matplotlib = _imported()
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        yield


def _imported() -> Any:
    """Matplotlib, also where it cannot be imported with the settings that the user's variables name."""
    try:
        return importlib.import_module("matplotlib")
    except ValueError:  # such as a backend of an older version, or a file that is not text
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]  # of what is half imported Python would take the parts for whole
        spec = importlib.util.find_spec("matplotlib")
        folders = (spec.submodule_search_locations if spec else None) or [""]
        before = {name: os.environ.pop(name, None) for name in (_RC, _BACKEND)}
        try:
            os.environ[_RC] = str(Path(folders[0], "mpl-data", "matplotlibrc"))
            return importlib.import_module("matplotlib")
        finally:
            del os.environ[_RC]
            os.environ |= {name: value for name, value in before.items() if value is not None}
