"""Frame of all commands: help, devices, and one line for bad input, a failed device or disk, or a stop."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import dropwhile, takewhile
from typing import Any

from jax.errors import JaxRuntimeError

from metarule.config.help import Source, overview, table
from metarule.config.imports import VARIABLE, allowed_imports, check_imports
from metarule.config.messages import collect_warnings, first_line, mute_output, shown_log
from metarule.config.shipped import find_config
from metarule.config.toml import ConfigError, decode_table, override, parse_overrides, read
from metarule.parallel import multihost as processes
from metarule.parallel.compilation_cache import enable_compilation_cache
from metarule.parallel.devices import Devices, spread
from metarule.runs.stopping import Terminated, terminable

__all__ = ["DEVICES", "run"]

DEVICES = Source(Devices, table="devices")
_HELP = {"--help", "-h"}
_IMPORT = "--import"
# New objects after which Python looks for garbage.
_OBJECTS = 100_000
_IMPORTS = f"""\
--import MODULE  allow components of a module of your own, such as --rule.kind MODULE:MyRule; its code is run. Repeat it
                 for several modules, or set {VARIABLE} to their names, separated by commas."""
_STATUSES = """\
Exit status: 0 done; 1 a device or disk failed, some of the work failed, or a figure could not be drawn, and the rest is
written; 2 bad input; 128 + the signal's number after Ctrl-C or SIGTERM."""


def run(
    name: str,
    words: list[str],
    usage: str,
    serve: Callable[[list[str]], int],
    note: str,
    fields: Sequence[Source] = (),
    bare: bool = False,
    cached: bool = True,
    joint: bool = False,
    computes: bool = True,
) -> int:
    """Run a command.

    Args:
        name: name of the command, which begins each line of error.
        words: words of the command line, without the program's name.
        usage: first part of the text for `--help`.
        serve: does the work, given the words without those of `devices`; returns the exit status.
        note: results that a stop or failure leaves, such as "nothing was written".
        fields: fields that the command takes, for `--help`.
        bare: whether the command runs without words; else it prints its help.
        cached: whether compiled programs are stored for later commands; false where compiling is timed.
        joint: whether several processes may share a run.
        computes: whether the command needs devices; else those that its words name are not started.

    Returns:
        Exit status: that of `serve`, 0 or 2 for help, 1 if the device or a disk failed or a figure could not be drawn,
        2 for bad input, 128 + signal for Ctrl-C and SIGTERM.
    """
    _prepare_streams()
    # Tracing makes many lasting objects: to search them for garbage as often as Python does is a twentieth of the time.
    gc.set_threshold(_OBJECTS, 20, 100)
    # After the end of a command, Ctrl-C would interrupt JAX alone, which would print a stack trace.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    try:
        words, modules = _modules(words)
        with terminable(), allowed_imports(modules), collect_warnings() as warnings:
            if (not words and not bare) or not _HELP.isdisjoint(words):
                print(_help(words, usage, (*fields, DEVICES) if computes else fields))
                status = 0 if words else 2
            else:
                status = _served(name, words, serve, bare, cached, joint, computes)
            print(end="", flush=True)
        return status or int(bool(warnings))
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not (reason := _failure(error)):
            raise
        return _ended(f"{name}: {reason}; {note}", 1)
    except KeyboardInterrupt as stop:
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        return _ended(f"{name}: stopped at once; {note}", 128 + number)


def _failure(error: Exception) -> str:
    """Failure of a device, a disk or another process, in words; empty for an error of the program."""
    reason = first_line(error)
    if not processes.is_single_process():  # JAX raises many kinds of errors if another process is gone
        return f"another process of this run is gone, or a device failed: {reason}"
    if isinstance(error, JaxRuntimeError):
        return f"the device failed: {reason}"
    if isinstance(error, OSError):
        mute_output()
        return f"{error.filename}: {reason}" if error.filename else reason
    return ""


def _modules(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the words without `--import MODULE`, and these modules."""
    rest, modules, remaining = list[str](), list[str](), list(words)
    while remaining:
        name, equals, value = (word := remaining.pop(0)).partition("=")
        if name != _IMPORT:
            rest.append(word)
            continue
        module = value if equals else remaining.pop(0) if remaining else ""
        if not all(part.isidentifier() for part in module.split(".")):
            raise ConfigError(f"{_IMPORT} {module!r}: allowed: the name of a module, such as my_rules or package.rules")
        modules.append(module)
    return rest, modules


def _ended(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status if processes.is_single_process() else processes.leave(status)


def _help(words: list[str], usage: str, fields: Sequence[Source]) -> str:
    """Text for `--help`, or for `--help TABLE`."""
    after = dropwhile(lambda word: word not in _HELP, words)
    path = ".".join(takewhile(lambda word: not word.startswith("-"), list(after)[1:]))
    try:
        check_imports()
        return table(fields, path) if path else "\n\n".join([usage.rstrip(), overview(fields), _IMPORTS, _STATUSES])
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _served(
    name: str,
    words: list[str],
    serve: Callable[[list[str]], int],
    bare: bool,
    cached: bool,
    joint: bool,
    computes: bool,
) -> int:
    """Do the work of a command on the devices that its words name."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"'{word}': this is not text: {error.reason}") from error
    devices, rest = _devices(words)
    if not rest and not bare:
        raise ConfigError(f"'{words[0]}': an option of [devices] alone is no command; see --help")
    if devices.coordinator and not joint:
        raise ConfigError(f"devices.coordinator = '{devices.coordinator}': this command runs in one process")
    if not computes:
        return serve(rest)
    if cached and (complaint := enable_compilation_cache()):
        print(f"{name}: {complaint}", file=sys.stderr)
    with processes.joined(devices), spread(devices), shown_log():
        processes.check_same("devices.matmul", devices.matmul)
        processes.check_same("devices.kernels", devices.kernels)
        return serve(rest)


def _devices(words: list[str]) -> tuple[Devices, list[str]]:
    """Read `devices` from the config file and the command line; return it with the other words."""
    own, rest, remaining = list[str](), list[str](), list(words)
    while remaining:
        word = remaining.pop(0)
        is_own = word.startswith("--devices.")
        (own if is_own else rest).append(word)
        if is_own and "=" not in word and remaining:
            own.append(remaining.pop(0))
    tree: dict[str, Any] = {}
    if rest and not rest[0].startswith("-"):
        with suppress(ConfigError):  # the command itself reports it
            tree = read(find_config(rest[0]))[1]
    return decode_table(override(tree, parse_overrides(own)), "devices", Devices), rest


def _prepare_streams() -> None:
    """Connect closed standard streams to the null device, and escape characters that a stream cannot encode.

    Otherwise the next opened file gets the number of a closed stream, and libraries that warn on standard error write
    into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with suppress(OSError):  # it is open
            os.fstat(number)
            continue
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
