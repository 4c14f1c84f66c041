"""List the runs below a directory: `metarule ls [DIR]`."""

import shutil
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from metarule.commands import cli
from metarule.config.help import Source
from metarule.config.toml import decode, parse_overrides
from metarule.runs.listing import Row, list_runs
from metarule.sweeps.rows import check_place, lines_of, write_rows

__all__ = ["FIELDS", "USAGE", "Options", "main"]

USAGE = """\
usage: metarule ls [DIR] [--all] [--json FILE]

List the runs below a directory, the last one changed at the end: runs of one or several seeds, structure searches and
sweeps. The score is the primary metric of the learned rule on held-out tasks. A run is done, running, stopped (and can
be resumed), diverged, damaged, or of another format; a sweep may have failed cells.

  DIR             directory; runs by default
  --all           list also each seed of several, and the members of sweeps
  --help [TABLE]  this text, or the fields of a table
"""
_ALL = "--all"
# Columns that a narrow terminal does not show.
_KINDS = ("rule", "circuit", "tasks")


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a listing.

    Attributes:
        json: file for the rows, as a list of flat objects; empty for none.
    """

    json: str = ""


FIELDS = (Source(Options),)


def main(words: list[str]) -> int:
    """Run the command with the words of its command line; the exit status is that of `cli.run`."""
    return cli.run("metarule ls", words, USAGE, _serve, "nothing was changed", FIELDS, bare=True, computes=False)


def _serve(words: list[str]) -> int:
    rest = [word for word in words if word != _ALL]
    top = Path(rest.pop(0) if rest and not rest[0].startswith("-") else "runs")
    options = decode({name: str(value) for name, value in parse_overrides(rest)}, Options)
    check_place(options.json)
    rows = list_runs(top, parts=_ALL in words)
    print("\n".join(_lines(rows)) if rows else f"{top}: it holds no runs")
    write_rows(options.json, [row._asdict() for row in rows])
    return 0


def _lines(rows: list[Row]) -> list[str]:
    """Lines of the table; without the kinds of components where a terminal is too narrow for them."""
    shown = [_shown(row) for row in rows]
    lines = lines_of(shown)
    if sys.stdout.isatty() and max(map(len, lines)) > shutil.get_terminal_size().columns:
        return lines_of([{name: text for name, text in row.items() if name not in _KINDS} for row in shown])
    return lines


def _shown(row: Row) -> dict[str, Any]:
    seed = f"{row.seeds} seeds" if row.seeds and row.seeds > 1 else row.seed
    progress = None if row.total is None else f"{row.done}/{row.total} {row.unit}"
    score = None if row.score is None else f"{row.metric} {row.score:.3f}"
    cells = {"name": row.name, "config": row.config} | {name: getattr(row, name) for name in _KINDS}
    cells |= {"seed": seed, "progress": progress, "score": score, "state": row.state}
    return {name: _printable(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}


def _printable(text: str) -> str:
    """Escape what would control the terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
