"""Recordings in NWB files, by paths of their fields."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarule.config.arrays import Declared
from metarule.config.toml import ConfigError
from metarule.recordings.checks import Recording
from metarule.recordings.shapes import Room, axes_of, check_shapes, is_stacked, not_found

__all__ = ["read_nwb", "unused_in_nwb"]


class _Field(NamedTuple):
    """Numbers of a time series, or of a column of a table, with one row a step.

    Attributes:
        data: the numbers as stored.
        scale: factor to its physical dimension.
        offset: added after that.
    """

    data: Any
    scale: float = 1.0
    offset: float = 0.0


def read_nwb(path: Path, columns: Mapping[str, tuple[str, ...]], room: Room) -> list[Recording]:
    """Read the animal of a file.

    Args:
        path: of the file.
        columns: paths of the fields of each array, such as `acquisition/dff` or `trials/choice`; columns of several
            fields are joined.
        room: sizes that the arrays may have.

    Raises:
        ConfigError: a field that cannot be used, or pynwb is missing; damaged files raise many kinds of errors.
    """
    with _fields(path) as fields:
        chosen = _choose(columns, fields)
        declared = {name: _declared(name, parts) for name, parts in chosen.items()}
        check_shapes(declared, room)
        if is_stacked(declared):
            raise ConfigError("array 'inputs' has 3 axes; allowed: [steps, inputs]; an .nwb holds one animal")
        return [Recording(path.stem, {name: _load(name, parts) for name, parts in chosen.items()})]


def unused_in_nwb(path: Path, columns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Fields of a file that `read_nwb` does not read."""
    used = {_plain(one) for paths in columns.values() for one in paths}
    with _fields(path) as fields:
        return tuple(name for name in fields if name not in used)


@contextmanager
def _fields(path: Path) -> Iterator[dict[str, _Field]]:
    """Open a file; its time series and the columns of its tables that are not ragged, by their paths."""
    if find_spec("pynwb") is None:
        raise ConfigError("pynwb is missing; install it with: pip install 'metarule[nwb]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions of the format
        import h5py
        import pynwb
        from hdmf.common import ElementIdentifiers, VectorIndex

        with pynwb.NWBHDF5IO(str(path), mode="r", load_namespaces=True) as opened:
            objects = list(opened.read().objects.values())
            indices = [one for one in objects if isinstance(one, VectorIndex)]
            left_out = {id(one) for one in [*indices, *(index.target for index in indices)]}
            left_out |= {id(one) for one in objects if isinstance(one, ElementIdentifiers)}
            known = (one for one in objects if isinstance(getattr(one, "data", None), h5py.Dataset))
            fields = {
                _plain(one.data.name): _Field(one.data, *_scaling(one)) for one in known if id(one) not in left_out
            }
            yield dict(sorted(fields.items()))


def _scaling(one: Any) -> tuple[float, float]:
    """Conversion and offset of a time series; a column of a table has none."""
    return getattr(one, "conversion", 1.0), getattr(one, "offset", 0.0)


def _plain(path: str) -> str:
    """Path of a field without what users of pynwb leave out: `/intervals/trials/choice` is `trials/choice`."""
    path = path.strip("/").removesuffix("/data")
    return path.removeprefix("intervals/") if path.startswith("intervals/trials/") else path


def _choose(columns: Mapping[str, tuple[str, ...]], fields: Mapping[str, _Field]) -> dict[str, list[_Field]]:
    """Fields of each array."""
    if not columns:
        raise ConfigError(f"columns: a path for each array is missing; allowed: {', '.join([*fields][:20])}")
    if "animal" in columns:
        raise ConfigError("columns.animal: an .nwb holds one animal, which is named as the file; allowed: arrays")
    for name, paths in columns.items():
        for one in paths:
            if _plain(one) not in fields:
                raise not_found(name, one, list(fields))
    return {name: [fields[_plain(one)] for one in paths] for name, paths in columns.items()}


def _declared(name: str, parts: Sequence[_Field]) -> Declared:
    """Shape and type of an array, whose columns are those of all its fields."""
    shapes = [_shape(name, part) for part in parts]
    kinds = sorted((part.data.dtype for part in parts), key=lambda kind: kind.kind in "fiub")
    if len({shape[:1] + shape[2:] for shape in shapes}) > 1 or (len(parts) > 1 and len(axes_of(name)) != 2):
        raise ConfigError(f"columns.{name}: fields of shapes {shapes}; allowed: one field, or columns of equal length")
    return (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:]) if len(parts) > 1 else shapes[0], kinds[0]


def _load(name: str, parts: Sequence[_Field]) -> np.ndarray:
    loaded = [part.data[()].astype(float).reshape(_shape(name, part)) * part.scale + part.offset for part in parts]
    return np.concatenate(loaded, axis=1) if len(parts) > 1 else loaded[0]


def _shape(name: str, part: _Field) -> tuple[int, ...]:
    """Shape of a field; one without an axis of neurons is one column of an array that has it."""
    shape = tuple(part.data.shape)
    return (*shape, 1) if len(shape) == 1 and len(axes_of(name)) == 2 else shape
