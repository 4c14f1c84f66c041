"""Recordings in npz archives: one animal, or several with a first axis of animals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarule.config.arrays import declared_arrays
from metarule.config.toml import ConfigError
from metarule.recordings.animals import Animal
from metarule.recordings.checks import Recording
from metarule.recordings.shapes import Room, axes_of, check_shapes, is_stacked

__all__ = ["arrays_of", "read_npz", "save_recordings"]


def read_npz(path: Path, columns: Mapping[str, tuple[str, ...]], room: Room) -> list[Recording]:
    """Read the animals of an archive, after what its headers declare was checked.

    Args:
        path: of the archive.
        columns: empty; arrays are found by their names.
        room: sizes that the arrays may have.

    Raises:
        ConfigError: an array that cannot be used; damaged files raise many kinds of errors.
    """
    if columns:
        raise ConfigError(f"columns.{next(iter(columns))}: allowed: nothing; arrays of .npz are found by their names")
    declared = declared_arrays(path)
    check_shapes(declared, room)
    with np.load(path, allow_pickle=False) as opened:
        arrays = {name: np.asarray(opened[name], float) for name in declared}
    if not is_stacked(declared):
        return [Recording(path.stem, arrays)]
    return [
        Recording(f"{path.stem}[{number}]", {name: _of_animal(name, values, number) for name, values in arrays.items()})
        for number in range(len(arrays["inputs"]))
    ]


def _of_animal(name: str, values: np.ndarray, number: int) -> np.ndarray:
    """Values of one animal in a stacked array; animals may share initial weights."""
    return values[number] if values.ndim > len(axes_of(name)) else values


def arrays_of(animal: Animal) -> dict[str, Any]:
    """Arrays of a recording by their names in its file."""
    fields = animal._asdict()
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    for name in ("weights", "initial_weights"):
        arrays |= {f"{name}_{number}" if number else name: value for number, value in fields[name].items()}
    return arrays


def save_recordings(animals: Sequence[Animal], folder: str | Path) -> None:
    """Write one file an animal, `<name>.npz`, into a folder, which is created if needed."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for animal in animals:
        np.savez(path / f"{animal.name}.npz", **arrays_of(animal))
