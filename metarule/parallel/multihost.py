"""Several processes that run one program: how they meet, agree, and leave.

All of them run the same commands on the same data, and `sharded_jit` each lives its share. The first works in the run
directory, each other in a copy of its own that is thrown away, so that nothing else has to know how many they are.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import NoReturn

import jax
import numpy as np

from metarule.config.toml import ConfigError
from metarule.parallel.devices import Devices, reserve

__all__ = ["PATIENCE", "agree_on_max", "check_same", "is_single_process", "joined", "leave", "place"]

# Seconds after which a process that is not heard of counts as gone, and that those who end wait for the others.
PATIENCE = 60
_WORKED, _FAILED = b"+", b"-"
_HEADS = "processes"


@contextmanager
def joined(devices: Devices) -> Iterator[None]:
    """Meet the other processes, if there are any; to be entered before anything is computed.

    Args:
        devices: which says where they meet.

    Yields:
        Within it the devices of all processes are there. Those after the first say nothing.

    Raises:
        ConfigError: processes that do not find each other.
    """
    if devices.coordinator:
        reserve(devices.use)
        _meet(devices)
    if is_single_process() or jax.process_index() == 0:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def is_single_process() -> bool:
    """Whether this is the only process of the run."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def agree_on_max(number: int) -> int:
    """The largest of the numbers that the processes come with, each at the same point of the program."""
    return number if is_single_process() else int(_of_all(np.array(number)).max())


def check_same(what: str, value: str) -> None:
    """Refuse processes that were started with other words where they have to be the same.

    Args:
        what: field by which they differ.
        value: of this process.

    Raises:
        ConfigError: in all processes, if one of them has another.
    """
    if is_single_process():
        return
    first = _tell(value.encode()).decode()
    if agree_on_max(int(value != first)):
        raise ConfigError(f"{what} = '{value}': allowed: the same in all processes; the first has '{first}'")


@contextmanager
def place(make: Callable[[], Path]) -> Iterator[Path]:
    """Where a process works: the first in a directory, the others each in a copy of it as it is now.

    Args:
        make: finds the directory or makes it; the first process alone calls it.

    Yields:
        The directory, or the copy, which is removed at the end.

    Raises:
        ConfigError: what `make` has raised, in all processes.
    """
    if is_single_process():
        yield make()
    elif jax.process_index() == 0:
        try:
            path = make()
            packed = _WORKED + _pack(path)
        except ConfigError as error:
            _tell(_FAILED + str(error).encode())
            raise
        _tell(packed)
        yield path
    else:
        packed = _tell(b"")
        if packed.startswith(_FAILED):
            raise ConfigError(packed.removeprefix(_FAILED).decode())
        with TemporaryDirectory(prefix="metarule-") as copy:
            _unpack(packed.removeprefix(_WORKED), Path(copy))
            yield Path(copy)


def leave(status: int) -> NoReturn:
    """End this process without a word to the others, some of which may be gone; they find out at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _meet(devices: Devices) -> None:
    auto = devices.coordinator == "auto"
    others = "the others were not met" if auto else f"of {devices.processes} processes not all were met"
    failed = f"devices.coordinator = '{devices.coordinator}': {others}"
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is answered by `StopRequest`
    late = Timer(PATIENCE, _too_late, (f"metarule: {failed} within {PATIENCE} s",))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            None if auto else devices.coordinator,
            None if auto else devices.processes,
            None if auto else devices.process,
            None if devices.use == "all" else range(devices.use),
            initialization_timeout=2 * PATIENCE,  # JAX would end the process with a stack trace
            heartbeat_timeout_seconds=PATIENCE,
            shutdown_timeout_seconds=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{failed}: {str(error).splitlines()[0]}") from error
    finally:
        late.cancel()


def _too_late(says: str) -> NoReturn:
    print(says, file=sys.stderr)
    leave(2)


def _tell(message: bytes) -> bytes:
    """What the first process has to say."""
    length = int(_of_all(np.array(len(message)))[0])
    padded = np.frombuffer(message.ljust(length)[:length], np.uint8)
    return _of_all(padded)[0].tobytes()


def _of_all(own: np.ndarray) -> np.ndarray:
    """What every process has to say [processes, …], each on one of its devices, of which they may have any number."""
    heads = [jax.local_devices(number)[0] for number in range(jax.process_count())]
    mesh = jax.make_mesh((len(heads),), (_HEADS,), axis_types=(jax.sharding.AxisType.Auto,), devices=heads)
    with jax.set_mesh(mesh):
        split = jax.NamedSharding(mesh, jax.P(_HEADS))
        said = jax.make_array_from_process_local_data(split, own[None], (len(heads), *own.shape))
        gathered = jax.jit(lambda said: said, out_shardings=jax.NamedSharding(mesh, jax.P()))(said)
        return np.asarray(gathered)


def _pack(path: Path) -> bytes:
    with TemporaryDirectory() as folder:
        return Path(shutil.make_archive(str(Path(folder, "run")), "tar", path)).read_bytes()


def _unpack(packed: bytes, path: Path) -> None:
    with TemporaryDirectory() as folder:
        archive = Path(folder, "run.tar")
        archive.write_bytes(packed)
        shutil.unpack_archive(archive, path, "tar", filter="data")
