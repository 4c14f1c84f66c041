"""Rows of a table on the screen and as JSON, and files that are written whole."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from metarule.analysis.statistics import Interval, interval_text
from metarule.config.toml import ConfigError
from metarule.runs.files import named_errors

__all__ = ["check_place", "lines_of", "write_rows", "write_whole"]


def check_place(file: str) -> None:
    """Refuse the value of `--json`, before anything is run, if no file can be written there; empty for none.

    Raises:
        ConfigError: a directory, or a file in a directory that does not exist.
    """
    if file and (Path(file).is_dir() or not Path(file).parent.is_dir()):
        raise ConfigError(f"--json '{file}': no file can be written there")


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format rows of a table, at least one, as lines for the screen; the first line names the columns."""
    cells = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def write_rows(file: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a list of flat objects into the file given with `--json`; empty for none.

    Raises:
        ConfigError: a file that cannot be written.
    """
    if file:
        try:
            text = msgspec.json.format(msgspec.json.encode(list(rows)), indent=1)  # NaN, for no interval, becomes null
            write_whole(Path(file), text.decode() + "\n")
        except OSError as error:
            raise ConfigError(f"--json '{file}': {error.strerror}") from error


def write_whole(file: Path, text: str) -> None:
    """Write a file whole or not at all; several processes may write the same. An error names the file."""
    temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
    with named_errors(file):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)


def _shown(value: Any) -> str:
    if isinstance(value, Interval):
        return f"{value.mean:.3f} [{interval_text(value.low, value.high, '.3f', ', ')}]"
    if value is None or value != value:  # NaN: there is no interval
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"
    return str(value)
