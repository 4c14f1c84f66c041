"""Tables of measurements that are made once, so that a program that was stopped goes on."""

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
_UNASKED = ("directory", "json")


def lay_out(directory: Path, options: Struct) -> None:
    """Make a directory for measurements; what is measured with other options does not belong into the same.

    Args:
        directory: the directory.
        options: of the program; `directory` and `json` make no difference.

    Raises:
        ConfigError: a directory that holds other measurements, or cannot be made.
    """
    file = directory / _OPTIONS
    asked = {name: value for name, value in msgspec.to_builtins(options).items() if name not in _UNASKED}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            write_json(directory / "environment.json", environment())
            write_json(file, asked)
    except OSError as error:
        raise ConfigError(f"--directory '{directory}': {error.strerror}") from error
    known, asked = read_json(file) or {}, msgspec.json.decode(msgspec.json.encode(asked))
    if other := [name for name in asked if known.get(name) != asked[name]]:
        raise ConfigError(f"--directory '{directory}': it holds measurements with other {' and '.join(other)}")


def kept(file: Path, measure: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of a table, which are measured once.

    Args:
        file: where they are kept.
        measure: makes them, where the file is not there.

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
