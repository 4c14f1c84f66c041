"""Frame of the programs: flags, options, `--help`, exit status, tables on the screen, and tables measured once."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import msgspec
from msgspec import Struct

from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import ConfigError, decode, parse_overrides
from metarule.runs.environment import environment
from metarule.runs.files import read_json, write_json
from metarule.sweeps.rows import check_place, lines_of

__all__ = ["QUICK", "command", "lay_out", "read_or_measure", "table"]

QUICK = "--quick"
_Options = TypeVar("_Options", bound=Struct)


def command(
    name: str,
    usage: str,
    options: type[_Options],
    serve: Callable[[_Options, list[str]], int],
    quick: Mapping[str, Any],
    flags: tuple[str, ...] = (QUICK,),
    cached: bool = False,
    interrupted: str = "tables that are done are kept",
) -> Callable[[list[str]], int]:
    """Build the function that runs a program.

    Args:
        name: of the program, for messages.
        usage: text for `--help` between the first line and the options.
        options: struct of the options, one of which is `json`.
        serve: called with the options and the given flags; returns the exit status.
        quick: defaults of options with `--quick`.
        flags: words without a value.
        cached: True to cache compiled programs.
        interrupted: message about results when the program is stopped.
    """
    shown = " ".join(f"[{flag}]" for flag in flags)
    usage = f"usage: python -m {name} {shown} [--option VALUE ...]\n\n{usage}--help{' ' * 29}this text\n"

    def parsed(words: list[str]) -> int:
        given = [word for word in words if word in flags]
        pairs = dict(parse_overrides([word for word in words if word not in flags]))
        read = decode({**(quick if QUICK in given else {}), **pairs}, options)
        check_place(read.json)  # type: ignore[attr-defined]
        return serve(read, given)

    def main(words: list[str]) -> int:
        """Run the program on the words of the command line.

        Returns:
            Exit status: 0 done; 1 if cells or the device failed, or a figure could not be drawn; 2 for bad input;
            128 + signal if stopped.
        """
        return cli.run(name, words, usage, parsed, interrupted, (Source(options),), bare=True, cached=cached)

    return main


def table(rows: Sequence[Mapping[str, Any]], **formats: str) -> str:
    """Format rows, at least one, for the screen; `formats` are the formats of columns that have their own."""

    def formatted(name: str, value: Any) -> Any:
        return format(value, formats[name]) if name in formats and value is not None else value

    return "\n".join(lines_of([{name: formatted(name, value) for name, value in row.items()} for row in rows]))


def lay_out(directory: Path, options: Struct) -> None:
    """Make a directory for measurements with some options.

    Args:
        directory: the directory.
        options: of the program; `directory` and `json` are ignored.

    Raises:
        ConfigError: a directory that holds measurements with other options, or cannot be made.
    """
    file = directory / "options.json"
    given = msgspec.json.decode(msgspec.json.encode(options))
    given = {name: value for name, value in given.items() if name not in ("directory", "json")}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_json(directory / "environment.json", environment())
            write_json(file, given)
    except OSError as error:
        raise ConfigError(f"--directory '{directory}': {error.strerror}") from error
    known = read_json(file)
    if other := [name for name in given if known.get(name) != given[name]]:
        raise ConfigError(f"--directory '{directory}': it holds measurements with other {' and '.join(other)}")


def read_or_measure(file: Path, measure: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Read the rows of a table from a file, or measure them where it does not exist, and write it."""
    known = read_json(file)
    if known is None:
        print(f"measuring {file.stem}", file=sys.stderr, flush=True)
        known = {"rows": measure()}
        write_json(file, known)
        jax.clear_caches()  # a process holds a limited number of compiled programs
    return list(known["rows"])
