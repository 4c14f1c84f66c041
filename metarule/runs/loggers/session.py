"""Loggers of a run, from its first row to its results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import nan
from operator import methodcaller
from pathlib import Path
from typing import Any

from metarule.config.messages import first_line, warn
from metarule.config.schema import leaves
from metarule.parallel.multihost import is_first_process
from metarule.runs.experiment import Experiment, to_tree
from metarule.runs.files import plain
from metarule.runs.loggers.base import Logger, Row
from metarule.runs.loggers.names import make_logger
from metarule.runs.theta_files import theta_meaning

__all__ = ["Loggers", "opened_loggers"]


class Loggers:
    """Loggers of a run, of which one that fails is dropped with a warning.

    Args:
        experiment: the experiment.
        directory: of the run.
        loggers: by name.
    """

    def __init__(self, experiment: Experiment, directory: Path, loggers: Sequence[tuple[str, Logger]]) -> None:
        self._settings, self._directory = to_tree(experiment), directory
        self._parameters = theta_meaning(experiment.lifetime)["names"]
        self._loggers, self._is_open = list(loggers), False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows of the metrics: at first those of earlier processes, then those of each call."""
        if not self._loggers:
            return
        flat = [_numbers(dict(row) | {"theta": dict(zip(self._parameters, row["theta"], strict=True))}) for row in rows]
        if self._is_open:
            for row in flat:
                self._each(methodcaller("log", row))
        else:
            self._is_open = True
            self._each(methodcaller("open", self._directory, self._settings, flat))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Log the results, and close the loggers; only the first call does so."""
        if self._is_open:
            self._is_open, results = False, _numbers(summary)
            self._each(methodcaller("close", results))

    def _each(self, do: Callable[[Logger], Any]) -> None:
        for named in list(self._loggers):
            try:
                do(named[1])
            except Exception as error:  # networks, disks and own loggers raise many kinds
                self._loggers.remove(named)
                _warn_of_drop(self._directory, named[0], error)


@contextmanager
def opened_loggers(experiment: Experiment, path: Path, own: Sequence[Logger] = ()) -> Iterator[Loggers]:
    """Provide the loggers of a run, and close them at the end of the block, or before by `finish`.

    Only the first of several processes logs.

    Args:
        experiment: the experiment, whose `run.loggers` are made.
        path: directory of the run.
        own: more loggers.
    """
    named: list[tuple[str, Logger]] = []
    if is_first_process():
        named = [*((type(logger).__name__, logger) for logger in own), *_make(experiment.run.loggers, path)]
    log = Loggers(experiment, path, named)
    try:
        yield log
    finally:
        log.finish({})


def _make(names: Sequence[str], path: Path) -> Iterator[tuple[str, Logger]]:
    for name in dict.fromkeys(names):
        try:
            yield name, make_logger(name)
        except ValueError as error:
            _warn_of_drop(path, name, error)


def _warn_of_drop(directory: Path, name: str, error: Exception) -> None:
    warn(f"{directory}: the logger {name} is dropped, and the run goes on: {first_line(error)}")


def _numbers(table: Mapping[str, Any]) -> Row:
    """Numbers of nested tables by dotted name, without text."""
    flat = [(name, value) for name, value in leaves(plain(table)) if not isinstance(value, str)]
    return {name: nan if value is None else +value for name, value in flat}  # + makes 0 or 1 of a truth value
