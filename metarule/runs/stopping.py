"""What ends work early, where nothing is lost: requests of a person or a scheduler, and lifetimes that all diverge."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from metarule.parallel.multihost import agree_on_max

__all__ = ["Diverged", "StopRequest", "Stopped", "Terminated", "terminable"]


class Diverged(Exception):
    """There is nothing left to learn from; the last good θ is saved. Its text is one line for the person."""


class Stopped(Exception):
    """Work was stopped on request, and all of it is saved.

    Args:
        step: last meta-step that was taken.
        signal_number: the signal that asked for it.
    """

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after meta-step {step}")
        self.step = step
        self.signal_number = signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds a program as Ctrl-C does."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM would end the process at once, as a second one does.

    Yields:
        Within it folders that hold nothing yet are removed, and locks are given back. Handlers of other programs are
        left alone.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    before = _handlers({signal.SIGTERM: _terminate})
    try:
        yield
    finally:
        _handlers(before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


def _handlers(wanted: dict[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Set handlers of signals, and return those before; in the main thread, for Python knows no others."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number, handler in wanted.items()}


class StopRequest:
    """Note SIGINT (Ctrl-C) and SIGTERM within a `with` block; a second signal ends the program at once.

    In another thread than the main one, as of a notebook server, signals are none of its business.
    """

    def __init__(self) -> None:
        self.signal_number = self._heard = 0

    def __enter__(self) -> "StopRequest":
        self._before = _handlers(dict.fromkeys((signal.SIGINT, signal.SIGTERM), self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def requested(self) -> bool:
        """Whether a signal has come, to this process or another of the run."""
        self.signal_number = agree_on_max(self._heard)
        return self.signal_number != 0

    def answer(self, step: int) -> None:
        """Raise `Stopped` if it was asked for; to be called where all work is saved."""
        if self.requested:
            raise Stopped(step, self.signal_number)

    def ask(self, signal_number: int) -> None:
        """Ask for a stop, as a signal does."""
        self._heard = signal_number

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.ask(number)
        self._restore()

    def _restore(self) -> None:
        _handlers(self._before)
