"""JSON and CSV files that are written whole or not at all."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import jax
import msgspec
import numpy as np

from metarule.config.toml import ConfigError, read_bytes

__all__ = [
    "LARGEST",
    "convert",
    "csv_text",
    "json_text",
    "named_errors",
    "parse_json",
    "plain",
    "read_json",
    "sync",
    "whole_file",
    "write_json",
    "write_text",
]

# Bytes of the largest JSON file that is read.
LARGEST = 2**26


@contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """Add the name of a file to every OSError of the block; the system omits it once the file is open."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def sync(file: IO[Any]) -> None:
    """Flush a file to the disk, so that a power cut does not leave an empty one."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def whole_file(file: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that replaces the former one at the end of the block, or not at all."""
    temporary = file.with_name(file.name + ".partial")
    with named_errors(file):
        with temporary.open("wb") as opened:
            yield opened
            sync(opened)
        temporary.replace(file)


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(file) as opened:
        opened.write(text.encode())


def plain(value: Any) -> Any:
    """Convert arrays to lists, named tuples to dictionaries, and numbers that are not finite to None, for JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int | None = None) -> str:
    """Encode a value, converted by `plain`, as JSON."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def parse_json(file: Path, text: bytes) -> dict[str, Any]:
    """Decode a JSON object, the content of a file; anything else is a ConfigError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: damaged: '{text[:40].decode(errors='replace')}' is no JSON object")
    return value


def read_json(file: Path) -> Any:
    """Read a JSON object; None if there is no such file."""
    return parse_json(file, read_bytes(file, LARGEST)) if os.path.lexists(file) else None


def convert(file: Path, value: Any, as_type: Any) -> Any:
    """Convert the content of a file to a type; content of another type is a ConfigError."""
    try:
        return msgspec.convert(value, as_type)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: damaged: {error}") from error


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(file, json_text(value, indent=2) + "\n")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Encode rows as CSV with a header: the names of their columns, in the order in which they first appear."""
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
