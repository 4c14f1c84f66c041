"""Metrics of a run: `metrics.jsonl`, one JSON object a meta-step."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarule.config.toml import ConfigError, check_file, read_bytes
from metarule.runs.files import json_text, named_errors, parse_json, sync, write_text

__all__ = ["METRICS", "append_metrics", "last_metrics", "read_metrics", "truncate_metrics"]

METRICS = "metrics.jsonl"
# Bytes of the largest file that is read.
_LARGEST = 2**30
# Bytes at the end of a file that are read for its last line, at first.
_PART = 2**14


def append_metrics(directory: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows, one a meta-step."""
    file = directory / METRICS
    with named_errors(file), file.open("a", encoding="utf-8") as opened:
        opened.writelines(json_text(row) + "\n" for row in rows)
        sync(opened)


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Read every complete line; a torn last one is omitted."""
    file = directory / METRICS
    if not file.exists():
        return []
    return [parse_json(file, line) for line in read_bytes(file, _LARGEST).split(b"\n")[:-1]]


def last_metrics(file: Path) -> dict[str, Any] | None:
    """Read the last complete line of a file of metrics, and no more of it than that needs; None if there is none."""
    check_file(file, _LARGEST)
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        part = _PART
        while True:
            opened.seek(max(size - part, 0))
            lines = opened.read().split(b"\n")[:-1]
            if len(lines) > 1 or part >= size:  # the first of several may be torn, too
                return parse_json(file, lines[-1]) if lines else None
            part *= 4


def truncate_metrics(directory: Path, step: int) -> list[dict[str, Any]]:
    """Drop the rows after a meta-step, from which a run resumes, and return those up to it.

    Raises:
        ConfigError: one of these is missing.
    """
    rows = read_metrics(directory)[:step]
    if [row.get("step") for row in rows] != list(range(1, step + 1)):
        raise ConfigError(f"{directory / METRICS}: it lacks some of the meta-steps 1 to {step}, the last checkpoint")
    write_text(directory / METRICS, "".join(json_text(row) + "\n" for row in rows))
    return rows
