"""Metrics as a table for spreadsheets and data frames."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarule.runs.files import csv_text, sync, write_text
from metarule.runs.loggers.base import Row

__all__ = ["CSV", "TABLE"]

TABLE = "metrics.csv"


class CSV:
    """`metrics.csv`: a line a meta-step, and a column a metric, which is empty where the metric is not measured.

    Columns are in the order in which metrics first appear. Results at the end are in `summary.json` alone.
    """

    def open(self, directory: Path, settings: Mapping[str, Any], earlier: Sequence[Row]) -> None:
        """Write the rows so far."""
        self._file = directory / TABLE
        self._rewrite([_cells(row) for row in earlier])

    def log(self, row: Row) -> None:
        """Append a line; a new metric lengthens all lines."""
        cells = _cells(row)
        if cells.keys() <= self._columns.keys():
            with self._file.open("a", encoding="utf-8", newline="") as opened:
                csv.DictWriter(opened, self._columns, lineterminator="\n").writerow(cells)
        else:
            with self._file.open(encoding="utf-8", newline="") as opened:
                written = list(csv.DictReader(opened))
            self._rewrite([*written, cells])

    def close(self, results: Row) -> None:
        """Flush the file to the disk."""
        with self._file.open("a") as opened:
            sync(opened)

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._columns = dict.fromkeys(name for row in rows for name in row)
        write_text(self._file, csv_text(rows))


def _cells(row: Row) -> dict[str, Any]:
    return {name: "" if math.isnan(value) else value for name, value in row.items()}
