"""Compiled programs that commands keep for later ones, in the user's cache directory.

JAX names a program by what it is compiled from and for: its operations, jaxlib, flags, and the target's model and
features, of the CPU also. What the name lacks is among how many cores XLA:CPU has split the work, so that each number
of cores has a folder of its own.
"""

import errno
import os
import shutil
from pathlib import Path

import jax
from filelock import FileLock

__all__ = ["VARIABLE", "enable_compilation_cache"]

VARIABLE = "METARULE_CACHE"

_OFF, _ON = ("off", "0", "no", "false"), ("", "on", "1", "yes", "true")
# Kept unless the environment has them. A program takes about 100 KiB, and JAX looks at every one before it adds one:
# a larger folder would be slow on a network's file system. The caches that XLA has besides know no bound.
_SIZE = 256 * 2**20
_SETTINGS = {
    "jax_compilation_cache_max_size": _SIZE,
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_enable_xla_caches": "none",
}
# What JAX calls its files: the lock of a folder, and for each program itself and when it was last used.
_LOCK, _PROGRAM, _USED = ".lockfile", "-cache", "-atime"
# Seconds to wait for processes that use the folder.
_PATIENCE = 10.0


def enable_compilation_cache() -> str:
    """Keep what is compiled from now on, and use what was kept, unless the user has set JAX's own cache or none.

    `METARULE_CACHE` is `off`, or another directory than `$XDG_CACHE_HOME/metarule/programs`.

    Returns:
        Why nothing is kept although the user has named a directory; empty otherwise.
    """
    chosen, settings = os.environ.get(VARIABLE, "").strip(), jax.config.values
    given = settings["jax_compilation_cache_dir"] is not None
    none = not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_max_size"] == 0
    if given or none or chosen.lower() in _OFF:
        return ""
    for name, value in _SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    chosen = "" if chosen.lower() in _ON else chosen
    try:
        folder = _folder(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _SIZE:  # the last of a disk is for results
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with FileLock(folder / _LOCK, timeout=_PATIENCE):
            _mend(folder)
    except (OSError, RuntimeError, ValueError) as error:  # not writable, no home, no locks, no name of a file
        reason = getattr(error, "strerror", None) or error
        return f"{VARIABLE} = '{chosen}': {reason}; compiled programs are not kept" if chosen else ""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return ""


def _folder(chosen: str) -> Path:
    if chosen:
        root = Path(chosen).expanduser().absolute()
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        root = (home if home.is_absolute() else Path.home() / ".cache") / "metarule" / "programs"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("NPROC", "")  # which XLA goes by, too
    return root / "-".join([f"{cores}-cores", *([threads] if threads.isdecimal() else [])])


def _mend(folder: Path) -> None:
    """Remove what a process left that was killed, or had no room, while it wrote.

    JAX does not replace a program that cannot be read, and without its time of use removes none to make room.
    """
    if jax.config.values["jax_compilation_cache_max_size"] < 0:  # then JAX keeps no times
        return
    programs = {file.name.removesuffix(_PROGRAM): file for file in folder.glob(f"*{_PROGRAM}")}
    used = {file.name.removesuffix(_USED): file for file in folder.glob(f"*{_USED}")}
    empty = {name for name, file in programs.items() if not file.stat().st_size}
    for name in (programs.keys() ^ used.keys()) | empty:
        for files in (programs, used):
            if name in files:
                files[name].unlink()
