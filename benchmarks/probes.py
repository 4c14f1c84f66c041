"""Meta-steps on some devices of some processes, timed in turns.

A probe is a process, alone or with others, that prints a line about its meta-step, and then the seconds of a meta-step
for each number of meta-steps that it reads.
"""

import json
import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarule.commands import cli
from metarule.config.toml import parse_overrides
from metarule.meta import advance, begin, phases
from metarule.prng import run_key
from metarule.runs.experiment import read_experiment_file

__all__ = ["Setup", "Timed", "message_sizes", "serve", "timed"]

_START = "import sys; from benchmarks.probes import serve; sys.exit(serve())"
# Most meta-steps of one call, and about how many seconds a turn takes.
_CAPACITY, _TURN = 1000, 0.5
_SHAPE = re.compile(r"(pred|[a-z]+)(\d*)\[([\d,]*)\]")
_COLLECTIVE = re.compile(
    r"= (\(?[^=]*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


class Setup(NamedTuple):
    """Devices that a meta-step runs on.

    Attributes:
        processes: on this machine.
        devices: of each of them.
        words: CONFIG, and fields of it.
    """

    processes: int
    devices: int
    words: tuple[str, ...]


class Timed(NamedTuple):
    """Measurements of a set-up.

    Attributes:
        program: `devices`, `collectives` and their `bytes` of a meta-step, and the first `gradient_norm`.
        seconds: of a meta-step, turn by turn.
    """

    program: Mapping[str, Any]
    seconds: list[float]


def timed(setups: Sequence[Setup], turns: int) -> list[Timed]:
    """Time set-ups in turns, since other work on the machine comes and goes.

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
        times = np.transpose(rounds).tolist()
        return [Timed(probe.program, seconds) for probe, seconds in zip(probes, times, strict=True)]


def serve() -> int:
    """Run a probe on the words of the command line: CONFIG, fields of it, and those of `devices`.

    Returns:
        Exit status.
    """
    return cli.run("benchmarks.scaling", sys.argv[1:], str, _serve, "nothing was written", joint=True)


def message_sizes(program: str) -> list[int]:
    """Bytes of each message between devices in the text of a compiled program; a message in a loop counts once."""
    return [
        sum(
            (int(bits or 8) // 8) * math.prod(int(size) for size in sizes.split(",") if size)
            for _, bits, sizes in _SHAPE.findall(shapes)
        )
        for shapes in _COLLECTIVE.findall(program)
    ]


def _serve(words: list[str]) -> int:
    experiment, _ = read_experiment_file(Path(words[0]), parse_overrides(words[1:]))
    lifetime, optimizer, pool = experiment.lifetime, experiment.optimizer, experiment.split.train
    key = run_key(experiment.seed)
    state = begin(lifetime, optimizer, pool, key)
    program = advance.lower(phases(optimizer, lifetime)[0], pool, state, key, jnp.asarray(1), _CAPACITY).compile()

    def advanced(count: int) -> Any:
        nonlocal state
        state, info = jax.block_until_ready(program(pool, state, key, jnp.asarray(count)))
        return info

    norm = float(advanced(1).observed["gradient_norm"][0])
    sizes = message_sizes(program.as_text() or "")
    devices = {"devices": jax.device_count(), "collectives": len(sizes), "bytes": sum(sizes)}
    print(json.dumps(devices | {"gradient_norm": norm}), flush=True)
    for line in sys.stdin:
        clock = time.perf_counter()
        advanced(int(line))
        print((time.perf_counter() - clock) / int(line), flush=True)
    return 0


class _Probe:
    """The processes of a set-up, which wait for numbers of meta-steps."""

    def __init__(self, running: list[subprocess.Popen[str]], errors: IO[str]) -> None:
        self._running, self._errors = running, errors
        self.program: dict[str, Any] = self._read()
        self._count = 1
        self._count = min(max(int(_TURN / self.turn()), 1), _CAPACITY)

    def turn(self) -> float:
        """Run some meta-steps; seconds of one."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(f"{self._count}\n")
            process.stdin.flush()
        return float(self._read())

    def _read(self) -> Any:
        first = self._running[0]
        assert first.stdout is not None
        for line in first.stdout:
            if not line.startswith("[Gloo]"):  # its own line on standard output when processes are connected
                return json.loads(line)
        self._errors.seek(0)
        raise RuntimeError(self._errors.read()[-1000:])


@contextmanager
def _probe(setup: Setup) -> Iterator[_Probe]:
    shared = ["--devices.use", str(setup.devices)]
    if setup.processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        shared += ["--devices.coordinator", address, "--devices.processes", str(setup.processes)]
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
