"""Locks of processes on cells, and publishing of finished folders."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metarule.config.toml import ConfigError

__all__ = ["LOCK", "publish", "take"]

LOCK = "cell.lock"


def take(folder: Path) -> AbstractContextManager[Any] | None:
    """Lock a folder for this process.

    The operating system holds the lock and releases it when the process ends, however it ends. Hosts that share a file
    system exclude each other where its locks reach across hosts, as those of NFS do.

    Args:
        folder: it exists.

    Returns:
        Context manager at whose end the folder is released; None if another process holds it.

    Raises:
        ConfigError: the file system has no locks.
    """
    try:
        return FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout:
        return None
    except NotImplementedError as error:
        raise ConfigError(f"{folder}: this file system has no locks, which processes of a sweep need") from error


def publish(work: Path, place: Path) -> bool:
    """Move a finished folder to its place, whole or not at all, and never over another.

    Args:
        work: finished folder.
        place: its destination, on the same file system.

    Returns:
        Whether the folder was moved; if not, the destination exists already.
    """
    try:
        work.rename(place)
    except OSError:
        if not place.exists():
            raise
        return False
    return True
