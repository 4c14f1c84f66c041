"""Cache of compiled programs in the user's cache directory, which commands share.

JAX names a program after its operations, jaxlib, flags, and the model and features of the target, a CPU included, but
not after the number of cores among which XLA:CPU splits the work. Each number of cores therefore has its own folder.
"""

import errno
import os
import shutil
from pathlib import Path

import jax
from filelock import FileLock

from metarule.config.messages import first_line
from metarule.parallel.devices import affinity

__all__ = ["VARIABLE", "enable_compilation_cache"]

VARIABLE = "METARULE_CACHE"

_OFF, _ON = ("off", "0", "no", "false"), ("", "on", "1", "yes", "true")
# Set unless the environment sets them. A program takes about 100 KiB, and JAX reads the times of all programs before it
# adds one: a larger folder would be slow on a network file system. The further caches of XLA have no limit of size.
_SIZE = 256 * 2**20
_SETTINGS = {
    "jax_compilation_cache_max_size": _SIZE,
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_enable_xla_caches": "none",
}
# Names of the files that JAX has for each program: its code, and the time of its last use.
_PROGRAM, _USED = "-cache", "-atime"


def enable_compilation_cache() -> str:
    """Store compiled programs and use stored ones, unless the user has set or disabled JAX's own cache.

    `METARULE_CACHE` is `off`, or a directory that replaces `$XDG_CACHE_HOME/metarule/programs`.

    Returns:
        Reason for which the directory that the user has named cannot be used; empty otherwise.
    """
    chosen, settings = os.environ.get(VARIABLE, "").strip(), jax.config.values
    own = settings["jax_compilation_cache_dir"] is not None
    disabled = not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_max_size"] == 0
    if own or disabled or chosen.lower() in _OFF:
        return ""
    for name, value in _SETTINGS.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    chosen = "" if chosen.lower() in _ON else chosen
    try:
        folder = _folder(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _SIZE:  # the last space of a disk is for results
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with FileLock(folder / ".lockfile", timeout=10):  # JAX's own lock of the folder
            _mend(folder)
    except (OSError, RuntimeError, ValueError) as error:  # not writable, no home, no locks, an invalid name
        return f"{VARIABLE} = '{chosen}': {first_line(error)}; compiled programs are not kept" if chosen else ""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return ""


def _folder(chosen: str) -> Path:
    if chosen:
        root = Path(chosen).expanduser().absolute()
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        root = (home if home.is_absolute() else Path.home() / ".cache") / "metarule" / "programs"
    threads = os.environ.get("NPROC", "")  # XLA reads it, too
    return root / "-".join([f"{affinity()}-cores", *([threads] if threads.isdecimal() else [])])


def _mend(folder: Path) -> None:
    """Remove incomplete programs of processes that were killed or ran out of space.

    JAX never replaces an unreadable program, and it stops making space if a time of last use is missing.
    """
    if jax.config.values["jax_compilation_cache_max_size"] < 0:  # JAX stores no times then
        return
    programs, used = ({file.name.removesuffix(end) for file in folder.glob(f"*{end}")} for end in (_PROGRAM, _USED))
    empty = {name for name in programs if not (folder / f"{name}{_PROGRAM}").stat().st_size}
    for name in (programs ^ used) | empty:
        for end in (_PROGRAM, _USED):
            (folder / f"{name}{end}").unlink(missing_ok=True)
