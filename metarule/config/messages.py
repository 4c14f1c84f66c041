"""What goes wrong without ending a command: one line on standard error each, and the exit status knows of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["collect_warnings", "first_line", "warn"]

_HEARD: ContextVar[list[str] | None] = ContextVar("warnings", default=None)


def warn(says: str) -> None:
    """Say in one line what is left undone.

    Args:
        says: the line.
    """
    print(says, file=sys.stderr, flush=True)
    heard_so_far = _HEARD.get()
    if heard_so_far is not None:
        heard_so_far.append(says)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect warnings.

    Yields:
        Those that are made within it. Where another command is at work around it, they are of that one alone: a
        command that others are made of does not fail over a figure.
    """
    if _HEARD.get() is not None:
        yield []
        return
    found: list[str] = []
    token = _HEARD.set(found)
    try:
        yield found
    finally:
        _HEARD.reset(token)


def first_line(error: BaseException) -> str:
    """What an error says, in one line: that of an operating system without its number and file."""
    says = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "")
    return f"{says}" or type(error).__name__
