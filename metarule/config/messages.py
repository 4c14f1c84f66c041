"""Messages for the person at the command line: warnings, first lines of errors, suggestions."""

import difflib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

__all__ = ["collect_warnings", "did_you_mean", "first_line", "mute_output", "shown_log", "warn"]

_WARNINGS: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(message: str) -> None:
    """Print a warning, one line that names the work that was not done; the exit status of the command becomes 1."""
    tqdm.write(message, file=sys.stderr)  # above a progress bar
    warnings = _WARNINGS.get()
    if warnings is not None:
        warnings.append(message)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the warnings of a command.

    Yields:
        The warnings. Within another command the list stays empty: the outer command collects them.
    """
    if _WARNINGS.get() is not None:
        yield []
        return
    warnings: list[str] = []
    token = _WARNINGS.set(warnings)
    try:
        yield warnings
    finally:
        _WARNINGS.reset(token)


@contextmanager
def shown_log() -> Iterator[None]:
    """Print what the package logs on standard error, each line once."""
    log, handler = logging.getLogger("metarule"), _Screen()
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # absl, which chex imports, prints what reaches the root
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


class _Screen(logging.Handler):
    """Lines on standard error, above a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line that was not printed before."""
        line = record.getMessage()
        if line not in self._shown:
            self._shown.add(line)
            tqdm.write(line, file=sys.stderr)


def first_line(error: BaseException) -> str:
    """First line of an error; for an error of the operating system, without its number and file."""
    message = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "")
    return f"{message}" or type(error).__name__


def mute_output() -> None:
    """Discard standard output if it cannot be written, because Python would fail on it again at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def did_you_mean(word: object, allowed: Iterable[object]) -> str:
    """Suggest the allowed word that is closest to a wrong one.

    Returns:
        End of a message, such as `"; did you mean 'hidden'?"`; empty if no word is close.
    """
    close = difflib.get_close_matches(word, map(str, allowed), 1) if isinstance(word, str) else []
    return f"; did you mean '{close[0]}'?" if close else ""
