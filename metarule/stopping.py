"""What ends work early, where nothing is lost: requests of a person or a scheduler, and lives that all diverge."""

import signal
from types import FrameType, TracebackType

from metarule.processes import agreed

__all__ = ["Diverged", "StopRequest", "Stopped"]


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


class StopRequest:
    """Note SIGINT (Ctrl-C) and SIGTERM within a `with` block; a second signal ends the program at once."""

    def __init__(self) -> None:
        self.signal_number = self._heard = 0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def requested(self) -> bool:
        """Whether a signal has come, to this process or another of the run."""
        self.signal_number = agreed(self._heard)
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
        for number, handler in self._before.items():
            signal.signal(number, handler)
