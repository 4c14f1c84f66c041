"""One run at a time in a directory."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from metarule.config.toml import ConfigError

__all__ = ["HOLDER", "LOCK", "holder", "locked"]

# The lock is the system's, and ends with the process that holds it, however that ends; its file stays. Who holds it, or
# did last, is said in a file of its own, for where the system knows no locks their file is not ours to write.
LOCK, HOLDER = "metarule.lock", "metarule.process.json"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others out of a directory.

    Args:
        path: the directory, which is made if it is not there. One in which nothing can be written needs no lock.

    Yields:
        Within it no other process works in the directory.

    Raises:
        ConfigError: another process does.
    """
    lock = FileLock(path / LOCK, timeout=0)
    with suppress(OSError):  # whoever writes the first file will say what is wrong
        path.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
        with suppress(OSError):  # of a disk that is full others will tell
            (path / HOLDER).write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}) + "\n")
    except Timeout as error:
        raise ConfigError(f"{path}: another process works in it{holder(path)}") from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, PermissionError) and (path / LOCK).exists() and os.access(path, os.W_OK):
            raise ConfigError(f"{path / LOCK}: {reason}: is it another user's run?") from error
        if path.is_dir() and os.access(path, os.W_OK):
            print(f"{path}: it cannot be kept for this process alone: {reason}", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


def holder(path: Path) -> str:
    """Which process works in a directory, or did last.

    Args:
        path: the directory.

    Returns:
        ": number on host"; empty where that is not known.
    """
    try:
        known = json.loads((path / HOLDER).read_text())
        return f": {int(known['process'])} on {known['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return ""
