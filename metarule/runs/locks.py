"""Locks of directories: one process at a time."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from metarule.config.messages import first_line
from metarule.config.toml import ConfigError

__all__ = ["HOLDER", "LOCK", "holder", "is_held", "locked"]

# The system releases the lock with the process that holds it, however that ends; the file remains. The holder is named
# in a file of its own, because the lock file is not written where the system has no locks.
LOCK, HOLDER = "metarule.lock", "metarule.process.json"
# Seconds to wait for a lock, because `is_held` takes it for a moment.
_PATIENCE = 0.1


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a directory, which is created if needed; a read-only one needs no lock.

    Raises:
        ConfigError: another process works there.
    """
    lock = FileLock(path / LOCK, timeout=_PATIENCE)
    with suppress(OSError):  # the first file that is written reports the error
        path.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
        with suppress(OSError):  # later writes report a full disk
            (path / HOLDER).write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}) + "\n")
    except Timeout as error:
        raise ConfigError(f"{path}: another process works in it{holder(path)}") from error
    except (OSError, NotImplementedError) as error:
        reason = first_line(error)
        if isinstance(error, PermissionError) and (path / LOCK).exists() and os.access(path, os.W_OK):
            raise ConfigError(f"{path / LOCK}: {reason}: is it another user's run?") from error
        if path.is_dir() and os.access(path, os.W_OK):
            print(f"{path}: the directory cannot be locked: {reason}", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


def is_held(lock: Path) -> bool:
    """Check whether a process holds a lock, whose file exists; it is taken for the moment of the check."""
    if lock.is_symlink():  # some versions of filelock empty the file that it leads to
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # another user's run, or a file system without locks
        return False


def holder(path: Path) -> str:
    """Process that holds the lock of a directory, or held it last: ": number on host"; empty if unknown."""
    try:
        known = json.loads((path / HOLDER).read_text())
        return f": {int(known['process'])} on {known['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return ""
