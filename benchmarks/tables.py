"""Tables that are measured once, so that a stopped program goes on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import msgspec
from msgspec import Struct

from metarule.config.toml import ConfigError
from metarule.runs.environment import environment
from metarule.runs.files import read_json, write_json

__all__ = ["kept", "lay_out"]

_OPTIONS = "options.json"
_IGNORED = ("directory", "json")


def lay_out(directory: Path, options: Struct) -> None:
    """Make a directory for measurements with some options.

    Args:
        directory: the directory.
        options: of the program; `directory` and `json` are ignored.

    Raises:
        ConfigError: a directory that holds measurements with other options, or cannot be made.
    """
    file = directory / _OPTIONS
    given = {name: value for name, value in msgspec.to_builtins(options).items() if name not in _IGNORED}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_json(directory / "environment.json", environment())
            write_json(file, given)
    except OSError as error:
        raise ConfigError(f"--directory '{directory}': {error.strerror}") from error
    known, given = read_json(file) or {}, msgspec.json.decode(msgspec.json.encode(given))
    if other := [name for name in given if known.get(name) != given[name]]:
        raise ConfigError(f"--directory '{directory}': it holds measurements with other {' and '.join(other)}")


def kept(file: Path, measure: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Read the rows of a table, or measure them once.

    Args:
        file: of the rows.
        measure: called where the file does not exist.

    Returns:
        The rows.
    """
    known = read_json(file)
    if known is None:
        print(f"measuring {file.stem}", file=sys.stderr, flush=True)
        known = {"rows": measure()}
        write_json(file, known)
        jax.clear_caches()  # a process may hold only so many programs
    return list(known["rows"])
