"""Meta-steps on some devices of some processes, timed in turns."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np

from benchmarks.scalings.probe import CAPACITY

__all__ = ["Setup", "Timed", "timed"]

_START = "import sys; from benchmarks.scalings.probe import serve; sys.exit(serve())"
# Seconds of a turn, about.
_TURN = 0.5


class Setup(NamedTuple):
    """Where a meta-step is taken.

    Attributes:
        processes: how many, on this machine.
        devices: of each of them.
        words: CONFIG, and fields of it.
    """

    processes: int
    devices: int
    words: tuple[str, ...]


class Timed(NamedTuple):
    """What was seen of a set-up.

    Attributes:
        said: what its probe says of the meta-step.
        seconds: of a meta-step, turn by turn.
    """

    said: Mapping[str, Any]
    seconds: list[float]


class _Probe:
    """The processes of a set-up; they wait for numbers of meta-steps."""

    def __init__(self, running: list[subprocess.Popen[str]], errors: IO[str]) -> None:
        self._running, self._errors = running, errors
        self.said: dict[str, Any] = self._read()
        self.count = 1
        self.count = min(max(int(_TURN / self.turn()), 1), CAPACITY)

    def turn(self) -> float:
        """Take some meta-steps; seconds of one."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(f"{self.count}\n")
            process.stdin.flush()
        return float(self._read())

    def _read(self) -> Any:
        first = self._running[0]
        assert first.stdout is not None
        for line in first.stdout:
            if not line.startswith("[Gloo]"):  # which says on standard output that processes have met
                return json.loads(line)
        self._errors.seek(0)
        raise RuntimeError(self._errors.read()[-1000:])


def timed(setups: Sequence[Setup], turns: int) -> list[Timed]:
    """Time set-ups in turns, as other work on the machine comes and goes.

    Args:
        setups: all on this machine.
        turns: of each.

    Returns:
        One a set-up.

    Raises:
        RuntimeError: a process that failed.
    """
    with ExitStack() as stack:
        probes = [stack.enter_context(_probe(setup)) for setup in setups]
        rounds = [[probe.turn() for probe in probes] for _ in range(turns)]
        return [
            Timed(probe.said, seconds) for probe, seconds in zip(probes, np.transpose(rounds).tolist(), strict=True)
        ]


@contextmanager
def _probe(setup: Setup) -> Iterator[_Probe]:
    shared = ["--devices.use", str(setup.devices)]
    if setup.processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            where = f"localhost:{free.getsockname()[1]}"
        shared += ["--devices.coordinator", where, "--devices.processes", str(setup.processes)]
    running, errors = list[subprocess.Popen[str]](), TemporaryFile("w+")  # noqa: SIM115
    try:
        for number in range(setup.processes):
            own = ["--devices.process", str(number)] if setup.processes > 1 else []
            words = [sys.executable, "-c", _START, *setup.words, *shared, *own]
            pipe = subprocess.PIPE
            running.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=errors, text=True))
        yield _Probe(running, errors)
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.communicate()
        errors.close()
