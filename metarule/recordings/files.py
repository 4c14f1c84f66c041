"""Files of recordings: all animals that a pattern of paths matches."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from metarule.config.messages import did_you_mean, first_line
from metarule.config.toml import ConfigError, check_file
from metarule.recordings.animals import Animal
from metarule.recordings.checks import Recording, check_together, present_steps, to_animal
from metarule.recordings.long_csv import read_long, unused_columns
from metarule.recordings.npz import read_npz
from metarule.recordings.nwb import read_nwb, unused_in_nwb
from metarule.recordings.shapes import AXES, LARGEST, Room, projection_of

__all__ = ["read_recordings", "unused_fields"]

_Columns: TypeAlias = Mapping[str, str | tuple[str, ...]]
_Read: TypeAlias = Callable[[Path, Mapping[str, tuple[str, ...]], Room], list[Recording]]

# Bytes of the largest NWB file, of which no more than the named fields is read.
_LARGEST_NWB = 2**62
# Readers by ending, and the bytes of the largest file.
_READERS: Mapping[str, tuple[_Read, int]] = MappingProxyType(
    {
        ".npz": (read_npz, LARGEST),
        ".csv": (read_long, LARGEST),
        ".tsv": (read_long, LARGEST),
        ".nwb": (read_nwb, _LARGEST_NWB),
    }
)


def read_recordings(pattern: str, columns: _Columns = MappingProxyType({})) -> tuple[tuple[Animal, ...], str]:
    """Read all animals of the files that a pattern matches. Files that have not changed are not read again.

    - `.npz`: the arrays `inputs`, `activity`, `weights`, `choices`, `rewards`, `targets`, `present`, `session`,
      `plastic` and `initial_weights` of one animal, or of several with a first axis of animals. `weights_1`, … and
      `initial_weights_1`, … belong to the projections after the first one.
    - `.csv`, `.tsv`: one row a step, with the animal in column `animal`; no weights.
    - `.nwb`: one animal; `columns` is needed.

    NaN in activity, weights, choices and rewards is "not observed". Steps whose `present` is 0 are left out.

    Args:
        pattern: path of a file, of a directory of files, or with wildcards.
        columns: columns of tables, or paths of fields in `.nwb`, by the name of the array, or of `animal` in tables;
            several for the neurons of an array. A table without it has columns named as the arrays, with a number for
            each neuron: `inputs_0`, `inputs_1`, ….

    Returns:
        (animals in the order of the names of their files, SHA-256 of their names and arrays).

    Raises:
        ValueError: in one line that names the file, the array, the value and what is allowed.
    """
    chosen, paths = _column_map(columns), _matching(pattern)
    versions = []
    for path in paths:
        with _named(path):
            stats = path.stat()
            versions.append((str(path), stats.st_size, stats.st_mtime_ns))
    return _read_versions(tuple(versions), tuple(chosen.items()))


def unused_fields(pattern: str, columns: _Columns = MappingProxyType({})) -> tuple[str, ...]:
    """Fields that `read_recordings` does not read, of the first file that a pattern matches.

    Args:
        pattern: as of `read_recordings`.
        columns: as of `read_recordings`.

    Returns:
        Columns of a table, or paths of the time series and of the columns of tables of an `.nwb`.

    Raises:
        ValueError: as of `read_recordings`.
    """
    path, chosen = _matching(pattern)[0], _column_map(columns)
    with _named(path):
        check_file(path, _LARGEST_NWB)
        match path.suffix.lower():
            case ".nwb":
                return unused_in_nwb(path, chosen)
            case ".csv" | ".tsv":
                return unused_columns(path, chosen)
    return ()


@contextmanager
def _named(place: object) -> Iterator[None]:
    """Turn every error into a ValueError of one line with the place in front; damaged files raise many kinds."""
    try:
        yield
    except (ConfigError, OSError) as error:
        raise ValueError(str(ConfigError(f"files: {place}, {first_line(error).removeprefix(f'{place}: ')}"))) from error
    except Exception as error:
        reason = f"it cannot be read: {type(error).__name__}: {first_line(error)}"
        raise ValueError(str(ConfigError(f"files: {place}, {reason}"))) from error


def _column_map(columns: _Columns) -> dict[str, tuple[str, ...]]:
    allowed = ["animal", *AXES]
    for name in columns:
        if projection_of(name)[0] not in allowed:
            raise ValueError(
                f"columns.{name}: there is no such array; allowed: {', '.join(allowed)}{did_you_mean(name, allowed)}"
            )
    return {name: (value,) if isinstance(value, str) else tuple(value) for name, value in columns.items()}


def _matching(pattern: str) -> list[Path]:
    """Absolute paths of the files that a pattern matches, in the order of their names."""
    try:
        path = Path(pattern).absolute()
        if path.is_dir():
            paths = [one for one in path.iterdir() if one.suffix.lower() in _READERS]
        else:
            anchor = Path(path.anchor)
            paths = [path] if path.exists() else list(anchor.glob(str(path.relative_to(anchor))))
    except (OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"files = '{pattern}': {first_line(error)}") from error
    paths = [one for one in paths if not one.name.startswith(".")]  # copies of a Mac hold no data
    if not (pattern and paths):
        raise ValueError(f"files = '{pattern}': no file matches")
    endings = sorted({one.suffix.lower() for one in paths})
    for ending in endings:
        if ending not in _READERS:
            raise ValueError(f"files = '{pattern}': ending '{ending}' is unknown; allowed: {', '.join(_READERS)}")
    if len(endings) > 1:
        raise ValueError(f"files = '{pattern}': endings {', '.join(endings)}; allowed: files of one ending")
    return sorted(paths)


@lru_cache(maxsize=4)
def _read_versions(
    versions: tuple[tuple[str, int, int], ...], columns: tuple[tuple[str, tuple[str, ...]], ...]
) -> tuple[tuple[Animal, ...], str]:
    """Animals of files and their SHA-256, cached for the versions of the files."""
    room, owners = Room(), dict[str, Path]()
    recordings, animals = list[Recording](), list[Animal]()
    for path in (Path(name) for name, *_ in versions):
        found = _read(path, dict(columns), room)
        for recording in found:
            if (other := owners.setdefault(recording.name, path)) != path:
                with _named(path):
                    raise ConfigError(f"animal '{recording.name}': {other} has one of that name; allowed: other names")
            with _named(path if len(found) == 1 else f"{path}, animal '{recording.name}'"):
                recordings.append(present_steps(recording))
                animals.append(to_animal(recordings[-1]))
        numbers = sum(values.size for recording in found for values in recording.arrays.values())
        steps = sum(len(recording.arrays["inputs"]) for recording in found)
        room = Room(room.numbers - numbers, room.steps - steps)
    try:
        check_together(recordings)
    except ConfigError as error:
        raise ValueError(f"files: {error}") from error
    return tuple(animals), _hash(recordings)


def _read(path: Path, columns: Mapping[str, tuple[str, ...]], room: Room) -> list[Recording]:
    read, largest = _READERS[path.suffix.lower()]
    with _named(path):
        check_file(path, largest)
        return read(path, columns, room)


def _hash(recordings: Sequence[Recording]) -> str:
    """SHA-256 of the names of animals and their arrays."""
    found = hashlib.sha256()
    for recording in recordings:
        for name, values in sorted(recording.arrays.items()):
            found.update(repr((recording.name, name, values.shape)).encode())
            found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()
