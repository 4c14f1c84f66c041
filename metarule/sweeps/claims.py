"""Who works on what: claims on folders that several processes, or hosts on a shared file system, agree about.

A folder's claims are numbered files, and the highest is in force. A claim is made by linking a file that says whose it
is to the next number, which the file system grants to one process alone, and whole; taking over from an owner who died
is the same step, so that two who see the same dead owner cannot both have the folder. A number is never used again:
nobody can mistake a new claim for the old one. The owner touches its claim while it works; one that has not been
touched for long, or whose owner is a dead process of this host, is free.
"""

import json
import os
import socket
import tempfile
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Claim", "Lost", "publish", "take"]

# A claim is touched so many times before it lapses.
_BEATS = 6


class Lost(Exception):
    """A claim that was taken over by another process, because it had not been touched for long."""


class Claim:
    """A folder that is this process's; use it in a `with` block, at whose end it is given back.

    Args:
        file: of the claim.
        lapse: seconds without a touch after which it is free.
    """

    def __init__(self, file: Path, lapse: float) -> None:
        self.file = file
        self._lapse = lapse
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> "Claim":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        _write(self.file, _owner(self._lapse) | {"released": True})

    def check(self) -> None:
        """Raise `Lost` unless the claim is still in force; to be called before anything is written."""
        if _latest(self.file.parent) != self.file:
            raise Lost(f"{self.file.parent}: taken over by another process")

    def _touch(self) -> None:
        while not self._done.wait(self._lapse / _BEATS):
            with suppress(OSError):  # a file system that is away for a while must not end the work
                os.utime(self.file)


def take(folder: Path, lapse: float) -> Claim | None:
    """Claim a folder.

    Args:
        folder: it exists.
        lapse: seconds without a touch after which this claim will be free for others. The claim of another is free
            after its own lapse, for its owner touches it that often.

    Returns:
        The claim; None if the folder is another's.
    """
    latest = _latest(folder)
    if latest is not None and not _is_free(latest, lapse):
        return None
    number = int(latest.stem.removeprefix("claim-")) + 1 if latest else 1
    file = folder / f"claim-{number:06d}.json"
    with tempfile.NamedTemporaryFile("w", dir=folder) as written:
        json.dump(_owner(lapse), written)
        written.flush()
        try:
            os.link(written.name, file)
        except FileExistsError:
            return None
    return Claim(file, lapse)


def publish(work: Path, place: Path) -> bool:
    """Put a finished folder in its place, whole or not at all, and never over another.

    Args:
        work: what was written.
        place: where it belongs, on the same file system.

    Returns:
        Whether it went there; if not, another is there already.
    """
    try:
        work.rename(place)
    except OSError:
        if not place.exists():
            raise
        return False
    return True


def _latest(folder: Path) -> Path | None:
    return max(folder.glob("claim-*.json"), default=None)


def _is_free(file: Path, lapse: float) -> bool:
    owner = _read(file)
    if owner.get("released") or (owner.get("host") == _host() and not _is_alive(owner.get("pid"))):
        return True
    with tempfile.NamedTemporaryFile(dir=file.parent) as probe:
        # Both times are those of the file system's clock, for the clocks of hosts differ.
        silent = os.fstat(probe.fileno()).st_mtime - file.stat().st_mtime
    own = owner.get("lapse")
    return silent > (own if isinstance(own, int | float) else lapse)


def _read(file: Path) -> dict[str, Any]:
    """What a claim says; nothing if it is damaged."""
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(file: Path, value: dict[str, Any]) -> None:
    temporary = file.with_suffix(".partial")
    try:
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:  # the system does not name a file that is open; metarule itself takes a second to import
        raise OSError(error.errno, error.strerror, str(file)) from error


def _owner(lapse: float) -> dict[str, Any]:
    return {"host": _host(), "pid": os.getpid(), "lapse": lapse}


def _host() -> str:
    """This host, and where it is in a container the name space of its process numbers."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {uuid.getnode():012x} {space}".strip()


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or os.name != "posix":
        return True  # it cannot be known, so the touches decide
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
