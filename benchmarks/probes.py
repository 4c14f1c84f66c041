"""Meta-steps on some devices of some processes, timed in turns.

A probe is one or several processes. It prints a line about its meta-step, and then the seconds of a meta-step
for each number of meta-steps that it reads.
"""

import json
import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarule.commands import cli
from metarule.config.toml import parse_overrides
from metarule.meta import advance, begin, list_phases
from metarule.prng import run_key
from metarule.runs.experiment import read_experiment_file

__all__ = ["Setup", "message_sizes", "serve", "timed"]

_START = "import sys; from benchmarks.probes import serve; sys.exit(serve())"
# Most meta-steps of one call, and about how many seconds a turn takes.
_CAPACITY, _TURN = 1000, 0.5
_SHAPE = re.compile(r"(pred|[a-z]+)(\d*)\[([\d,]*)\]")
_COLLECTIVE = re.compile(
    r"= (\(?[^=]*?) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


class Setup(NamedTuple):
    """Processes on this machine, devices of each of them, and the words CONFIG and fields of it."""

    processes: int
    devices: int
    words: tuple[str, ...]


def timed(setups: Sequence[Setup], turns: int) -> list[dict[str, Any]]:
    """Time set-ups on this machine for some turns each, in turns, since other work on the machine comes and goes.

    Returns:
        By set-up: `devices`, `collectives` and their `bytes` of a meta-step, the first `gradient_norm`, and `seconds`
        of a meta-step, turn by turn.

    Raises:
        RuntimeError: a process that failed.
    """
    with ExitStack() as stack:
        probes = [stack.enter_context(_probe(setup)) for setup in setups]
        rounds = [[turn() for _, turn in probes] for _ in range(turns)]
        return [program | {"seconds": list(seconds)} for (program, _), seconds in zip(probes, zip(*rounds))]


def serve() -> int:
    """Run a probe on the words of the command line: CONFIG, fields of it, and those of `devices`."""
    return cli.run("benchmarks.scaling", sys.argv[1:], "", _serve, "nothing was written", joint=True)


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
    program = advance.lower(list_phases(optimizer, lifetime)[0], pool, state, key, jnp.asarray(1), _CAPACITY).compile()
    state, info = program(pool, state, key, jnp.asarray(1))
    sizes = message_sizes(program.as_text() or "")
    known = {"devices": jax.device_count(), "collectives": len(sizes), "bytes": sum(sizes)}
    print(json.dumps(known | {"gradient_norm": float(info.observed["gradient_norm"][0])}), flush=True)
    for line in sys.stdin:
        clock = time.perf_counter()
        state, _ = jax.block_until_ready(program(pool, state, key, jnp.asarray(int(line))))
        print((time.perf_counter() - clock) / int(line), flush=True)
    return 0


@contextmanager
def _probe(setup: Setup) -> Iterator[tuple[dict[str, Any], Callable[[], float]]]:
    """Start the processes of a set-up; yield what they print of their program, and the function of a turn."""
    shared = ["--devices.use", str(setup.devices)]
    if setup.processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        shared += ["--devices.coordinator", address, "--devices.processes", str(setup.processes)]
    with ExitStack() as stack:
        errors = stack.enter_context(TemporaryFile("w+"))
        running, pipe = list[subprocess.Popen[str]](), subprocess.PIPE
        stack.callback(_end, running)
        for number in range(setup.processes):
            own = ["--devices.process", str(number)] if setup.processes > 1 else []
            words = [sys.executable, "-c", _START, *setup.words, *shared, *own]
            running.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=errors, text=True))

        def read() -> Any:
            for line in running[0].stdout or ():
                if not line.startswith("[Gloo]"):  # its own line on standard output when processes are connected
                    return json.loads(line)
            errors.seek(0)
            raise RuntimeError(errors.read()[-1000:])

        def ask(count: int) -> float:
            for process in running:
                assert process.stdin is not None
                process.stdin.write(f"{count}\n")
                process.stdin.flush()
            return float(read())

        program = read()
        count = min(max(int(_TURN / ask(1)), 1), _CAPACITY)
        yield program, lambda: ask(count)


def _end(running: Sequence[subprocess.Popen[str]]) -> None:
    for process in running:
        process.kill()
    for process in running:
        process.communicate()
