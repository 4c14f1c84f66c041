"""What the commands share: help, and bad input, a device or disk that fails, or a stop answered by one line."""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import jax
from jax.errors import JaxRuntimeError
from msgspec import Struct

from metarule.config.messages import collect_warnings, first_line
from metarule.config.schema import describe
from metarule.config.toml import ConfigError, decode, parse_overrides, read
from metarule.parallel import multihost as processes
from metarule.parallel.compilation_cache import enable_compilation_cache
from metarule.parallel.devices import Devices, spread
from metarule.runs.stopping import Terminated, terminable

__all__ = ["run"]

_TABLE = "devices"
_GONE = "another process of this run is gone, or a device failed"
_STATUSES = """\
Exit status: 0 done; 1 a device or disk failed, some of the work failed, or a figure could not be drawn, and all else is
written; 2 bad input; 128 + the signal's number after Ctrl-C or SIGTERM."""


class _Given(Struct):
    """What any command may be told besides its own words."""

    devices: Devices = Devices()


def run(
    name: str,
    words: list[str],
    usage: Callable[[], str],
    serve: Callable[[list[str]], int],
    kept: str,
    bare: bool = False,
    cached: bool = True,
    joint: bool = False,
) -> int:
    """Run a command.

    Args:
        name: of the command, which begins each line of error.
        words: of the command line, without the program's name.
        usage: makes the text for `--help`.
        serve: reads the words, those for `devices` left out, and does the work; returns the exit status.
        kept: what is there of the work after Ctrl-C.
        bare: whether it may be run without words; else these show its help.
        cached: whether compiled programs are kept for later commands; not where compiling is timed.
        joint: whether several processes may run it together.

    Returns:
        Exit status: that of `serve`, 0 or 2 for help, 1 if the device or a disk failed or a figure could not be drawn,
        2 for bad input, 128 + signal for Ctrl-C and SIGTERM.
    """
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal whose character set has no θ is shown its number
            stream.reconfigure(errors="backslashreplace")
    # Once a command has ended, Ctrl-C finds nothing to stop but JAX, which would print a stack trace.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    try:
        with terminable(), collect_warnings() as warnings:
            if (not words and not bare) or {"--help", "-h"} & set(words):
                print(f"{usage().rstrip()}\n\n{describe(_Given).strip()}\n\n{_STATUSES}")
                status = 0 if words else 2
            else:
                status = _served(name, words, serve, bare, cached, joint)
            print(end="", flush=True)
        return status or int(bool(warnings))
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not processes.is_single_process():  # JAX raises many kinds where a process does not hear of another
            return _failed(name, f"{_GONE}: {first_line(error)}", kept)
        if isinstance(error, JaxRuntimeError):
            return _failed(name, f"the device failed: {first_line(error)}", kept)
        if isinstance(error, OSError):
            _mute()
            where = f"{error.filename}: " if error.filename else ""
            return _failed(name, f"{where}{first_line(error)}", kept)
        raise
    except KeyboardInterrupt as stop:
        status = 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
        print(f"{name}: stopped at once; {kept}", file=sys.stderr)
        if not processes.is_single_process():
            processes.leave(status)
        return status


def _served(
    name: str, words: list[str], serve: Callable[[list[str]], int], bare: bool, cached: bool, joint: bool
) -> int:
    """Do the work of a command where it is to be done."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"'{word}': this is not text: {error.reason}") from error
    devices, rest = _devices(words)
    if not rest and not bare:
        raise ConfigError(f"'{words[0]}': this says where to compute, and nothing what; see --help")
    if devices.coordinator and not joint:
        raise ConfigError(f"devices.coordinator = '{devices.coordinator}': this command runs in one process")
    if cached and (complaint := enable_compilation_cache()):
        print(f"{name}: {complaint}", file=sys.stderr)
    # Whatever the user has set: Optax, and what moves θ, rely on promotion, and a seed means the same random numbers.
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.threefry_partitionable(True),
        processes.joined(devices),
        spread(devices),
    ):
        processes.check_same(f"{_TABLE}.matmul", devices.matmul)
        return serve(rest)


def _open_closed() -> None:
    """Give a standard stream that was closed a place that takes everything.

    A file that is opened would else get its number, and libraries that warn on standard error would write into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with suppress(OSError):  # it is open
            os.fstat(number)
            continue
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _mute() -> None:
    """Leave nothing for standard output where nobody takes it: Python would fail over it once more at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(name: str, what: str, kept: str) -> int:
    print(f"{name}: {what}; {kept}", file=sys.stderr)
    if not processes.is_single_process():
        processes.leave(1)
    return 1


def _devices(words: list[str]) -> tuple[Devices, list[str]]:
    """Where to compute, as the config file and the command line say, and the other words."""
    given, rest, left = list[str](), list[str](), list(words)
    while left:
        word = left.pop(0)
        own = word.startswith(f"--{_TABLE}.")
        (given if own else rest).append(word)
        if own and "=" not in word and left:
            given.append(left.pop(0))
    table: dict[str, object] = {}
    if rest and not rest[0].startswith("-"):
        with suppress(ConfigError):  # of which the command itself will warn
            table = read(Path(rest[0]))[1].get(_TABLE, {})
    said = {field.removeprefix(f"{_TABLE}."): value for field, value in parse_overrides(given)}
    return decode({_TABLE: table | said if isinstance(table, dict) else table}, _Given).devices, rest
