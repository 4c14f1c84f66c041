"""Command line of the programs: flags, options, `--help` and exit status."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from metarule.commands import cli
from metarule.config.schema import describe
from metarule.config.toml import decode, parse_overrides
from metarule.sweeps.rows import check_place

__all__ = ["QUICK", "run"]

QUICK = "--quick"
_Options = TypeVar("_Options", bound=Struct)


def run(
    name: str,
    words: list[str],
    usage: str,
    options: type[_Options],
    serve: Callable[[_Options, list[str]], int],
    quick: Mapping[str, Any],
    flags: tuple[str, ...] = (QUICK,),
    cached: bool = False,
    interrupted: str = "tables that are done are kept",
) -> int:
    """Run a program.

    Args:
        name: of the program, for messages.
        words: of the command line, without the program's name.
        usage: text of `--help`; the options are appended.
        options: struct of the options, one of which is `json`.
        serve: called with the options and the flags that were given; returns the exit status.
        quick: defaults of options with `--quick`.
        flags: words without a value.
        cached: whether compiled programs are cached.
        interrupted: message about results when the program is stopped.

    Returns:
        Exit status: that of `serve`; 1 if the device failed or a figure could not be drawn; 2 for bad input;
        128 + signal if stopped.
    """

    def parsed(words: list[str]) -> int:
        given = [word for word in words if word in flags]
        pairs = dict(parse_overrides([word for word in words if word not in flags]))
        read = decode({**(quick if QUICK in given else {}), **pairs}, options)
        check_place(read.json)  # type: ignore[attr-defined]
        return serve(read, given)

    text = (usage + describe(options)).rstrip()
    return cli.run(name, words, lambda: text, parsed, interrupted, bare=True, cached=cached)
