"""Directories that anybody may have written, read without following links that lead out."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from metarule.config.toml import read_bytes
from metarule.runs.files import LARGEST
from metarule.runs.locks import HOLDER, LOCK
from metarule.runs.sweep_files import CELL_LOCK

__all__ = ["Folder", "open_folder"]


class Folder(NamedTuple):
    """A directory and its entries.

    Attributes:
        path: where it is.
        top: directory that contains it, and all files that are read.
        entries: by name.
    """

    path: Path
    top: Path
    entries: dict[str, os.DirEntry[str]]

    @property
    def name(self) -> str:
        """Path below the top; bytes that are no text are escaped."""
        return str(self.path.relative_to(self.top)).encode(errors="backslashreplace").decode()

    @property
    def changed(self) -> str:
        """Time of the last change of an entry in UTC; locks do not count."""
        files = [entry for name, entry in self.entries.items() if name not in (LOCK, HOLDER, CELL_LOCK)]
        seconds = max((entry.stat(follow_symlinks=False).st_mtime for entry in files), default=0.0)
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    def folders(self) -> list["Folder"]:
        """Directories inside that can be read, in the order of their names, without links and hidden ones."""
        inside = (entry for name, entry in sorted(self.entries.items()) if not name.startswith("."))
        opened = (open_folder(Path(entry.path), self.top) for entry in inside if entry.is_dir(follow_symlinks=False))
        return [folder for folder in opened if folder]

    def file(self, name: str) -> Path:
        """Path of a file; a link that leads out of the top is a ValueError."""
        file = self.path / name
        if file.is_symlink() and not file.resolve().is_relative_to(self.top.resolve()):
            raise ValueError(f"{name} is a link that leads out")
        return file

    def json(self, name: str, as_type: Any) -> Any:
        """Content of a JSON file, None without the file; content of another type is a ValueError."""
        if name not in self.entries:
            return None
        try:
            return msgspec.json.decode(read_bytes(self.file(name), LARGEST), type=as_type)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"{name}: {error}") from error


def open_folder(path: Path, top: Path) -> Folder | None:
    """Read the names of the entries of a directory; None if it cannot be read."""
    try:
        with os.scandir(path) as entries:
            return Folder(path, top, {entry.name: entry for entry in entries})
    except OSError:
        return None
