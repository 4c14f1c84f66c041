"""Recordings in long format: tables with one row a step."""

import re
from array import array
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from metarule.config.toml import ConfigError
from metarule.recordings.checks import Recording
from metarule.recordings.shapes import AXES, Room, axes_of, check_shapes, not_found
from metarule.tasks.tables import csv_rows

__all__ = ["read_long", "unused_columns"]

# Cells that are no numbers, and what they stand for.
_WORDS = {"": np.nan, "na": np.nan, "n/a": np.nan, "true": 1.0, "false": 0.0}


def read_long(path: Path, columns: Mapping[str, tuple[str, ...]], room: Room) -> list[Recording]:
    """Read the animals of a table in the order of their first rows.

    Args:
        path: of a table with a header, split at commas, semicolons or tabs.
        columns: columns of each array, and of `animal`. One name stands for all columns with that name and a number,
            such as `inputs` for `inputs_0`, `inputs_1`, …. Without columns each array has those with its own name.
        room: sizes that the arrays may have.

    Raises:
        ConfigError: a column or a cell that cannot be used; damaged files raise many kinds of errors.
    """
    with path.open(encoding="utf-8-sig", newline="") as opened:
        reader, header = _start(opened)
        places = _find(header, columns)
        animal = places.pop("animal", [])
        check_shapes({name: (_shape(name, found), np.dtype(float)) for name, found in places.items()}, room)
        used = [place for found in places.values() for place in found]
        rows = _Rows(header, used, animal, room)
        for row in reader:
            if row:  # an empty line has none
                rows.add(row, reader.line_num)
    if not rows.lines:
        raise ConfigError("it has no rows")
    ends = np.cumsum([len(found) for found in places.values()])[:-1]
    numbers, lines = np.frombuffer(rows.numbers).reshape(-1, len(used)), np.frombuffer(rows.lines, np.int64)
    return [
        _recording(name if animal else path.stem, list(places), np.split(numbers[own], ends, axis=1), lines[own])
        for name, own in rows.animals.items()
    ]


def unused_columns(path: Path, columns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Columns of a table that `read_long` does not read."""
    with path.open(encoding="utf-8-sig", newline="") as opened:
        _, header = _start(opened)
    used = {place for found in _find(header, columns).values() for place in found}
    return tuple(name for place, name in enumerate(header) if place not in used)


class _Rows:
    """Numbers of the rows of a file: those of the columns that are read, their lines, and the rows of each animal."""

    def __init__(self, header: Sequence[str], used: Sequence[int], animal: Sequence[int], room: Room) -> None:
        self._header, self._used, self._animal, self._room = header, used, animal, room
        self.numbers, self.lines = array("d"), array("q")
        self.animals: dict[str, array] = {}

    def add(self, row: Sequence[str], line: int) -> None:
        """Add a row that is no empty line."""
        if len(row) != len(self._header):
            raise ConfigError(f"line {line}: it has {len(row)} cells; the header has {len(self._header)}")
        try:
            self.numbers.extend([float(row[place]) for place in self._used])
        except ValueError:
            self.numbers.extend([self._number(row[place], place, line) for place in self._used])
        name = " ".join(row[place].strip() for place in self._animal)
        if self._animal and not name:
            raise ConfigError(
                f"line {line}, column '{self._header[self._animal[0]]}': the name of the animal is missing"
            )
        self.animals.setdefault(name, array("q")).append(len(self.lines))
        self.lines.append(line)
        if len(self.numbers) > self._room.numbers or len(self.lines) > self._room.steps:
            raise ConfigError(
                f"line {line}: too long; allowed: up to {Room().numbers} numbers and {Room().steps} rows in all files"
            )

    def _number(self, cell: str, place: int, line: int) -> float:
        word = cell.strip().lower()
        try:
            return _WORDS[word] if word in _WORDS else float(word)
        except ValueError:
            raise ConfigError(
                f"line {line}, column '{self._header[place]}': '{cell}'; allowed: numbers, true, false, and NA or an "
                "empty cell (not observed)"
            ) from None


def _start(opened: TextIOWrapper) -> tuple[Any, list[str]]:
    """Rows of an opened file after its header, and the header."""
    reader = csv_rows(opened)
    header = [cell.strip() for cell in next(reader, [])]
    if not header:
        raise ConfigError("it has no header")
    return reader, header


def _find(header: Sequence[str], columns: Mapping[str, tuple[str, ...]]) -> dict[str, list[int]]:
    """Places of the columns of each array, and of `animal`."""
    found = {}
    for name, wanted in (columns or {name: (name,) for name in ("animal", *AXES)}).items():
        places = []
        for column in wanted:
            inner = _places(header, column, is_numbered=name != "animal" and len(axes_of(name)) > 1)
            if columns and not inner:
                raise not_found(name, column, header)
            places += inner
        if places and name != "animal" and "pre neurons" in axes_of(name):
            raise ConfigError(f"column '{header[places[0]]}': weights are not read from tables; allowed: .npz or .nwb")
        if places:
            found[name] = places
    return found


def _places(header: Sequence[str], name: str, is_numbered: bool) -> list[int]:
    """Places of the column with a name, or of those with a number after it, in the order of the numbers."""
    exact = [place for place, column in enumerate(header) if column == name]
    if len(exact) > 1:
        raise ConfigError(f"two columns have the name '{name}'")
    if exact or not is_numbered:
        return exact
    matches = {re.fullmatch(re.escape(name) + "_(0|[1-9][0-9]*)", column): column for column in header}
    numbers = {int(match[1]): column for match, column in matches.items() if match}
    return [place for _, column in sorted(numbers.items()) for place in _places(header, column, False)]


def _shape(name: str, places: Sequence[int]) -> tuple[int, ...]:
    """Shape of one step of an array."""
    return (1,) if len(places) == len(axes_of(name)) == 1 else (1, len(places))


def _recording(name: str, arrays: Sequence[str], parts: Sequence[np.ndarray], lines: np.ndarray) -> Recording:
    shaped = {
        array: part[:, 0] if len(axes_of(array)) == 1 else part for array, part in zip(arrays, parts, strict=True)
    }
    return Recording(name, shaped, lambda step: f"line {lines[step]}")
