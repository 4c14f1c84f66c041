"""Tables of files: a column of labels and columns of numbers, from CSV, npz and Parquet."""

import csv
import io
import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from metarule.config.arrays import Declared, declared_arrays
from metarule.config.messages import did_you_mean

__all__ = ["LARGEST", "Table", "csv_rows", "read_table"]

# Bytes of the largest file, and of the numbers in it.
LARGEST = 2**30
# Numbers up to this size have finite differences.
_MOST = 1e300
# Cells of missing values that are no numbers, and names that a message lists at most.
_MISSING = {"", "?", "-", "na", "n/a", "null", "none"}
_LISTED = 20


class Table(NamedTuple):
    """Columns of a file.

    Attributes:
        features: finite numbers [rows, columns].
        labels: number of the class of each row.
        classes: names of the classes in order.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


class _Refused(ValueError):
    """Content that cannot be used, with the reason; libraries raise other errors."""


class _Raw(NamedTuple):
    """Columns as a file holds them.

    Attributes:
        features: numbers [rows, columns], NaN where they are missing.
        columns: their names.
        labels: number of the label of each row.
        names: the labels: texts or numbers; None for a missing one.
        place: name of a row, from its number.
    """

    features: np.ndarray
    columns: list[str]
    labels: np.ndarray
    names: list[Any]
    place: Callable[[int], str]


def read_table(content: bytes, ending: str, label: str, features: Sequence[str] = ()) -> Table:
    """Read a column of labels and columns of numbers from the content of a file.

    Args:
        content: of the file.
        ending: `.csv`, `.tsv`, `.npz` or `.parquet`.
        label: column of the labels: text or integers.
        features: columns of the features, or arrays of an npz; empty for every column but the label.

    Raises:
        ValueError: naming the field, or the column and the row, and what is allowed.
    """
    if ending not in _READERS:
        raise _Refused(f"unknown ending '{ending}'; allowed: {', '.join(_READERS)}")
    if not content:
        raise _Refused("the file is empty")
    try:
        raw = _READERS[ending](content, label, features)
        _check_numbers(raw)
        return Table(raw.features, *_classes(raw, label))
    except _Refused:
        raise
    except Exception as error:  # damaged files raise many kinds
        raise _Refused(f"it cannot be read: {type(error).__name__}: {error}") from error


def _check_numbers(raw: _Raw) -> None:
    bad = ~(np.abs(raw.features) <= _MOST)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        value = raw.features[row, column]
        what = "the value is missing" if math.isnan(value) else f"{value:g}; allowed: numbers up to {_MOST:g} in size"
        raise _Refused(f"{raw.place(row)}, column '{raw.columns[column]}': {what}")
    if (raw.features == raw.features[0]).all():
        raise _Refused("all features are constant; at least one must vary")


def _classes(raw: _Raw, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number of the class of each row, and names of the classes: integers in their order, or texts in theirs."""
    used, labels = np.unique(raw.labels, return_inverse=True)
    names = [None if raw.names[code] == "" else raw.names[code] for code in used.tolist()]
    numbers = [_number(name) for name in names]
    is_text = any(number is None and name is not None for name, number in zip(names, numbers, strict=True))
    keys = [str(name) for name in names] if is_text else numbers
    for code, key in enumerate(keys):
        if names[code] is None or key != key:
            row = int(np.flatnonzero(labels == code)[0])
            raise _Refused(f"{raw.place(row)}, column '{label}': the value is missing")
        if not is_text and not isinstance(key, int):
            raise _Refused(f"label = '{label}': it holds real numbers, such as {key:g}; allowed: text or integers")
    classes = sorted(set(keys))
    if len(classes) < 2:
        raise _Refused(f"label = '{label}': all rows have '{classes[0]}'; at least two classes are needed")
    order = {key: number for number, key in enumerate(classes)}
    labels = np.array([order[key] for key in keys])[labels]
    largest = int(np.bincount(labels).max())
    if 8 * len(classes) * largest > LARGEST:  # a table has the rows of each class
        raise _Refused(f"label = '{label}': {len(classes)} classes of up to {largest} rows are too many")
    return labels, tuple(str(key) for key in classes)


def _number(value: Any) -> Any:
    """Number that a label or a cell stands for, an integer where it is whole; None for text."""
    for kind in (int, float):
        try:
            number = kind(value) if isinstance(value, str) else value + 0
        except (TypeError, ValueError):
            continue
        return int(number) if number % 1 == 0 else number
    return None


def _chosen(
    names: Sequence[str],
    label: str,
    features: Sequence[str],
    arrays: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[str]:
    """Names of the feature columns, if these and the label are columns; an array stands for all its columns."""
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise _Refused(f"two columns have the name '{doubled[0]}'")
    if "" in names:
        raise _Refused(f"column {list(names).index('') + 1} has no name")
    _check_names(f"label = '{label}'", [label], names)
    others = [name for name in names if name != label]
    _check_names(f"features = {list(features)}", features, [*others, *arrays])
    chosen = [name for one in features for name in arrays.get(one, [one])] or others
    if label in chosen or len(set(chosen)) < len(chosen):  # an array may hold the label
        raise _Refused(f"features = {list(features)}: allowed: each column once, and not the label")
    if not chosen:
        raise _Refused("it has no column but the label")
    return chosen


def _check_names(field: str, given: Sequence[str], names: Sequence[str]) -> None:
    known = set(names)
    unknown = [name for name in given if name not in known]
    if unknown:
        listed = ", ".join(dict.fromkeys(names[:_LISTED])) + (", …" if len(names) > _LISTED else "")
        raise _Refused(
            f"{field}: there is no column '{unknown[0]}'; allowed: {listed}{did_you_mean(unknown[0], names)}"
        )


def _check_size(rows: int, columns: int) -> None:
    if rows < 1:
        raise _Refused("it has no rows")
    if 8 * rows * columns > LARGEST:
        raise _Refused(f"{rows} rows of {columns} numbers; allowed: up to {LARGEST // 8} numbers")


def _no_numbers(column: str, example: str, numeric: Sequence[str]) -> ValueError:
    names = ", ".join(f'"{name}"' for name in numeric[:_LISTED]) + (", …" if len(numeric) > _LISTED else "")
    remedy = f"name the columns of numbers: features = [{names}]" if numeric else "features are numbers"
    return _Refused(f"column '{column}' holds {example}; {remedy}")


def _read_csv(content: bytes, label: str, features: Sequence[str]) -> _Raw:
    try:
        return _read_rows(csv_rows(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")), label, features)
    except UnicodeDecodeError as error:
        raise _Refused(f"not text of UTF-8: {error}") from error


def csv_rows(opened: io.TextIOWrapper) -> Any:
    """Iterate over the rows of an opened CSV file, split at commas, semicolons or tabs, as its first line is."""
    first = opened.readline()
    delimiter = max(",;\t", key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
    opened.seek(0)
    return csv.reader(opened, delimiter=delimiter, skipinitialspace=True)


def _read_rows(reader: Any, label: str, features: Sequence[str]) -> _Raw:
    names = [cell.strip() for cell in next(reader, [])]
    numbers = [number for number in map(_number, names) if number is not None]
    if label not in names and (len(numbers) == len(names) or any(isinstance(number, float) for number in numbers)):
        raise _Refused(f"line 1 must name the columns; it holds {', '.join(names[:_LISTED])}")
    chosen = _chosen(names, label, features)
    places = {name: number for number, name in enumerate(names)}
    columns, labelled = [places[name] for name in chosen], places[label]
    values, lines, labels, known = array("d"), array("q"), array("q"), dict[str, int]()
    for row in reader:
        if not row:  # an empty line
            continue
        if len(row) != len(names):
            raise _Refused(f"line {reader.line_num}: it has {len(row)} cells; the header has {len(names)}")
        try:
            values.extend([float(row[column]) for column in columns])
        except ValueError:
            cells = {name: row[places[name]].strip() for name in chosen}
            raise _refused_row(f"line {reader.line_num}", cells) from None
        labels.append(known.setdefault(row[labelled].strip(), len(known)))
        lines.append(reader.line_num)
    _check_size(len(lines), len(chosen))
    table = np.frombuffer(values).reshape(len(lines), len(chosen))
    return _Raw(table, chosen, np.frombuffer(labels, np.int64), list(known), lambda row: f"line {lines[row]}")


def _refused_row(line: str, cells: Mapping[str, str]) -> ValueError:
    """Error about the first cell of a row that is no number."""
    column = next(name for name, cell in cells.items() if _number(cell) is None)
    if cells[column].lower() in _MISSING:
        return _Refused(f"{line}, column '{column}': the value is missing")
    numeric = [name for name, cell in cells.items() if _number(cell) is not None]
    return _no_numbers(column, f"text, '{cells[column]}' in {line}", numeric)


def _read_npz(content: bytes, label: str, features: Sequence[str]) -> _Raw:
    declared = declared_arrays(io.BytesIO(content))
    for name, (shape, kind) in declared.items():
        _check_array(name, shape, kind)
    columns = {
        name: [f"{name}[{column}]" for column in range(shape[1])] if len(shape) == 2 else [name]
        for name, (shape, _) in declared.items()
    }
    owners = {column: (name, number) for name, inner in columns.items() for number, column in enumerate(inner)}
    chosen = _chosen([name for inner in columns.values() for name in inner], label, features, columns)
    holder = owners[label][0]
    arrays = list(dict.fromkeys(owners[column][0] for column in chosen))
    _check_arrays({name: declared[name] for name in [holder, *arrays]}, holder, arrays)
    rows = declared[holder][0][0]
    _check_size(rows, len(chosen))
    with np.load(io.BytesIO(content), allow_pickle=False) as opened:
        loaded = {name: opened[name].reshape(rows, -1) for name in [holder, *arrays]}
    names, labels = np.unique(loaded[holder][:, owners[label][1]], return_inverse=True)
    numbers = [loaded[name][:, number].astype(float) for name, number in map(owners.__getitem__, chosen)]
    return _Raw(np.stack(numbers, axis=1), chosen, labels, names.tolist(), _row)


def _check_array(name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
    if kind.hasobject:
        raise _Refused(f"array '{name}' holds pickled objects; allowed: numbers, and text for the label")
    if math.prod(max(1, length) for length in shape) * max(kind.itemsize, 1) > LARGEST:
        raise _Refused(f"array '{name}' has shape {shape} of {kind}; allowed: up to {LARGEST} bytes")


def _check_arrays(arrays: Mapping[str, Declared], holder: str, chosen: Sequence[str]) -> None:
    """Refuse arrays of unequal length, of too many axes, or whose type has no place; the holder has the label."""
    for name, (shape, kind) in arrays.items():
        if len(shape) not in (1, 2):
            raise _Refused(f"array '{name}' has shape {shape}; allowed: one or two axes")
        if shape[0] != arrays[holder][0][0]:
            lengths = f"'{holder}' has {arrays[holder][0][0]} rows, '{name}' has {shape[0]}"
            raise _Refused(f"arrays of unequal length: {lengths}")
        if name in chosen and kind.kind not in "fiub":
            numeric = [other for other in chosen if arrays[other][1].kind in "fiub"]
            raise _no_numbers(name, "text" if kind.kind in "US" else str(kind), numeric)
        if kind.kind not in "fiubU":
            raise _Refused(f"array '{name}' holds {kind}; allowed: text or integers")


def _read_parquet(content: bytes, label: str, features: Sequence[str]) -> _Raw:
    if find_spec("pyarrow") is None:
        raise _Refused("pyarrow is missing; install it with: pip install 'metarule[data]'")
    import pyarrow
    from pyarrow import parquet, types

    schema = parquet.read_schema(pyarrow.BufferReader(content))
    chosen = _chosen(schema.names, label, features)
    file = parquet.ParquetFile(pyarrow.BufferReader(content), read_dictionary=[label])
    _check_size(file.metadata.num_rows, len(chosen) + 1)
    kinds = {name: schema.field(name).type for name in chosen}
    is_number = (types.is_integer, types.is_floating, types.is_boolean)
    numeric = [name for name, kind in kinds.items() if any(test(kind) for test in is_number)]
    for name in chosen:
        if name not in numeric:
            raise _no_numbers(name, str(kinds[name]).replace("string", "text"), numeric)
    table = file.read(columns=[*chosen, label])
    numbers = [np.asarray(table[name].to_numpy(), float) for name in chosen]
    labels = table[label].combine_chunks()
    labels = labels if isinstance(labels, pyarrow.DictionaryArray) else labels.dictionary_encode()
    names = [*labels.dictionary.to_pylist(), None]  # for missing labels
    codes = labels.indices.cast(pyarrow.int64()).fill_null(len(names) - 1).to_numpy()
    return _Raw(np.stack(numbers, axis=1), chosen, codes, names, _row)


def _row(row: int) -> str:
    return f"row {row} (from 0)"


_READERS = {".csv": _read_csv, ".tsv": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}
