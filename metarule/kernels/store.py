"""Machine code on disk, in the folder of JAX's persistent cache, where there is one."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax

__all__ = ["stored"]

# Code of a small network takes some 30 KB.
_MOST_BYTES = 64 * 2**20
_FOLDER, _SUFFIX = "kernels", ".o"
_DIGEST = 32


def stored(name: str, make: Callable[[], bytes]) -> bytes:
    """Read what was made under a name before, or make it and store it.

    The code used least recently makes room. A disk that is full or cannot be written costs a second compilation only,
    and so does a damaged file: LLVM would end the process.
    """
    root, enabled = (jax.config.values[f"jax_{key}"] for key in ("compilation_cache_dir", "enable_compilation_cache"))
    if not root or not enabled or "://" in root:
        return make()
    file = Path(root) / _FOLDER / (name + _SUFFIX)
    with suppress(OSError):
        digest, code = (whole := file.read_bytes())[:_DIGEST], whole[_DIGEST:]
        if digest == _digest(code):
            os.utime(file)
            return code
    code = make()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_room(file.parent, len(code))
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as new:
            new.write(_digest(code) + code)
        Path(new.name).replace(file)  # readers see the whole file or none
    return code


def _digest(code: bytes) -> bytes:
    return hashlib.sha256(code).digest()


def _make_room(folder: Path, size: int) -> None:
    """Remove the code used least recently until some bytes fit."""
    files = []
    for file in folder.glob("*"):  # with what a killed process left
        with suppress(OSError):  # another process has removed it
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    total = size + sum(one for _, one, _ in files)
    for _, one, file in sorted(files):
        if total <= _MOST_BYTES:
            return
        file.unlink(missing_ok=True)
        total -= one
