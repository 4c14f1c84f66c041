"""Early ends without loss: stop requests by signals, and divergence."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from metarule.parallel.multihost import agree_on_max

__all__ = ["Diverged", "StopRequest", "Stopped", "Terminated", "terminable"]


class Diverged(Exception):
    """All lifetimes diverge, or θ is not finite; the last good θ is saved. The message is one line."""


class Stopped(Exception):
    """Stop on request by a signal, after everything up to a completed meta-step is saved."""

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after meta-step {step}")
        self.step, self.signal_number = step, signal_number


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised as an exception like Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` at the first SIGTERM, so that `finally` clauses run; a second one ends the process at once.

    Handlers of other programs are kept.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    before = _set_handlers({signal.SIGTERM: _terminate})
    try:
        yield
    finally:
        _set_handlers(before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


def _set_handlers(wanted: dict[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Set signal handlers, and return the previous ones; Python allows this in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number, handler in wanted.items()}


class StopRequest:
    """Record SIGINT (Ctrl-C) and SIGTERM within a `with` block; a second signal ends the program at once.

    Outside the main thread, as in a notebook server, signals are not recorded.
    """

    def __init__(self) -> None:
        self.signal_number = self._received = 0

    def __enter__(self) -> "StopRequest":
        self._before = _set_handlers(dict.fromkeys((signal.SIGINT, signal.SIGTERM), self._record))
        return self

    def __exit__(self, *_: object) -> None:
        _set_handlers(self._before)

    @property
    def requested(self) -> bool:
        """True once this process, or another one of the run, has received a signal."""
        self.signal_number = agree_on_max(self._received)
        return self.signal_number != 0

    def answer(self, step: int) -> None:
        """Raise `Stopped` if requested; call it where all work is saved."""
        if self.requested:
            raise Stopped(step, self.signal_number)

    def ask(self, signal_number: int) -> None:
        """Request a stop, as a signal does."""
        self._received = signal_number

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.ask(number)
        _set_handlers(self._before)
