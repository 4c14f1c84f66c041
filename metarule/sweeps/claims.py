"""Locks of processes on cells, and publishing of finished folders."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metarule.config.toml import ConfigError
from metarule.runs.sweep_files import CELL_LOCK

__all__ = ["publish", "take"]


def take(folder: Path) -> AbstractContextManager[Any] | None:
    """Lock an existing folder for this process.

    The operating system holds the lock and releases it when the process ends, however it ends. Hosts that share a file
    system exclude each other if its locks extend over hosts, as those of NFS do.

    Returns:
        Context manager at whose end the folder is released; None if another process holds it.

    Raises:
        ConfigError: the file system has no locks.
    """
    try:
        return FileLock(folder / CELL_LOCK).acquire(blocking=False)
    except Timeout:
        return None
    except NotImplementedError as error:
        raise ConfigError(f"{folder}: this file system has no locks, which processes of a sweep need") from error


def publish(work: Path, place: Path) -> bool:
    """Move a folder to a place on the same file system, whole or not at all; False if the place exists already."""
    try:
        work.rename(place)
    except OSError:
        if not place.exists():
            raise
        return False
    return True
