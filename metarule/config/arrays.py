"""Arrays in files of others: what the headers of an npz archive declare, before memory is taken."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Declared", "declared_arrays"]

# Shape and type of an array, as its header declares them.
Declared: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]


def declared_arrays(archive: Path | BytesIO) -> dict[str, Declared]:
    """Shape and type of each array of an npz archive by name; damaged ones raise many kinds of errors."""
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        # Of two names that differ in the ending alone, numpy might read the other one.
        if len(set(names)) < len(names) or not all(name.endswith(".npy") for name in names):
            raise ValueError(f"it holds {', '.join(names[:10])}; allowed: arrays that numpy has written, each once")
        return {name.removesuffix(".npy"): _declared(opened, name) for name in names}


def _declared(archive: zipfile.ZipFile, name: str) -> Declared:
    with archive.open(name) as opened:
        if (version := np.lib.format.read_magic(opened)) != (1, 0):  # whose headers have at most 64 KiB
            raise ValueError(f"{name} has version {version}; allowed: (1, 0)")
        shape, _, kind = np.lib.format.read_array_header_1_0(opened)
    return shape, kind
