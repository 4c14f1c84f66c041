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
        return {name.removesuffix(".npy"): _declared(opened, name) for name in opened.namelist()}


def _declared(archive: zipfile.ZipFile, name: str) -> Declared:
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(name) as opened:
        shape, _, kind = read_header[np.lib.format.read_magic(opened)](opened)
    return shape, kind
