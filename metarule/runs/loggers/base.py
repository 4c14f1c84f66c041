"""Protocol of loggers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Logger", "Row", "grouped"]

# Numbers by dotted name, such as `held_out.solved`; NaN where `metrics.jsonl` has null.
Row: TypeAlias = Mapping[str, int | float]


@runtime_checkable
class Logger(Protocol):
    """A logger of the metrics of one run; an error in one of its methods drops it, and the run goes on."""

    def open(self, directory: Path, settings: Mapping[str, Any], earlier: Sequence[Row]) -> None:
        """Begin to log.

        Args:
            directory: of the run.
            settings: the experiment as nested tables.
            earlier: rows of the meta-steps before this process; empty for a new run. Rows of later meta-steps that an
                earlier process has logged are void: they are computed again.
        """

    def log(self, row: Row) -> None:
        """Log the metrics of the next meta-step, whose number is `step`."""

    def close(self, results: Row) -> None:
        """End with the numbers of `summary.json`; empty if the run was stopped before it has any."""


def grouped(row: Row) -> dict[str, int | float]:
    """Finite numbers of a row without `step`, as in `held_out/solved`: a slash makes a group of charts."""
    finite = {name: value for name, value in row.items() if math.isfinite(value) and name != "step"}
    return {name.replace(".", "/", 1): value for name, value in finite.items()}
