"""Metrics as event files of TensorBoard, written by tensorboardX."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarule.runs.loggers.base import Row, grouped

__all__ = ["EVENTS", "TensorBoard"]

EVENTS = "tensorboard"
# Seconds between flushes.
_PAUSE = 10


class TensorBoard:
    """`tensorboard/`: one event a meta-step, and the results as `results/…` at the last.

    A resumed run writes all events again, so that none is missing or void. A TensorBoard that is open purges those that
    it has read. `SummaryWriter` would write in another thread, and block for ever if that fails on a full disk.
    """

    def open(self, directory: Path, settings: Mapping[str, Any], earlier: Sequence[Row]) -> None:
        """Write the rows so far."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder = directory / EVENTS
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        self._writer, self._step = EventsWriter(str(folder / "events")), 0
        self._write(1, session_log=SessionLog(status=SessionLog.START))  # purges this and later steps
        for row in earlier:
            self._add(row)
        self._flush()

    def log(self, row: Row) -> None:
        """Write an event, and flush from time to time."""
        self._add(row)
        if time.monotonic() - self._flushed > _PAUSE:
            self._flush()

    def close(self, results: Row) -> None:
        """Write the results, and close the file."""
        self._add({f"results.{name}": value for name, value in results.items()} | {"step": self._step})
        self._writer.close()

    def _add(self, row: Row) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        self._step = int(row["step"])
        values = [Summary.Value(tag=name, simple_value=value) for name, value in grouped(row).items()]
        if values:
            self._write(self._step, summary=Summary(value=values))

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))

    def _flush(self) -> None:
        self._writer.flush()
        self._flushed = time.monotonic()
