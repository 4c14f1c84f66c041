"""Several processes that share a run: they connect, agree, and exit.

All processes run the same command on the same data, and `sharded_jit` gives each its share of the lifetimes. The first
process works in the run directory, each other process in a temporary copy. No other code depends on their number.
"""

import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import NoReturn

import jax
import numpy as np

from metarule.config.toml import ConfigError
from metarule.parallel.devices import Devices, reserve

__all__ = [
    "TIMEOUT",
    "agree_on_max",
    "check_same",
    "is_first_process",
    "is_single_process",
    "joined",
    "leave",
    "working_directory",
]

# Seconds after which a silent process counts as gone, and that a process waits for the others at its end.
TIMEOUT = 60
_OK, _FAILED = b"+", b"-"


@contextmanager
def joined(devices: Devices) -> Iterator[None]:
    """Connect to the other processes of the run, before anything is computed; only the first process prints.

    Raises:
        ConfigError: processes that cannot connect.
    """
    if devices.coordinator:
        reserve(devices.use)
        _connect(devices)
    if is_first_process():
        yield
        return
    with Path(os.devnull).open("w") as null, redirect_stdout(null), redirect_stderr(null):
        yield


def is_single_process() -> bool:
    """True if this is the only process of the run."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def is_first_process() -> bool:
    """True in the process that works in the run directory."""
    return is_single_process() or jax.process_index() == 0


def agree_on_max(number: int) -> int:
    """Largest of the processes' numbers; all processes call it at the same point of the program."""
    return number if is_single_process() else int(_gather(np.array(number)).max())


def check_same(what: str, value: str) -> None:
    """Refuse processes that were started with different values of a field, by its name.

    Raises:
        ConfigError: in all processes, if the value of one differs.
    """
    if is_single_process():
        return
    first = _broadcast(value.encode()).decode()
    if agree_on_max(int(value != first)):
        raise ConfigError(f"{what} = '{value}': allowed: the same in all processes; the first has '{first}'")


@contextmanager
def working_directory(make: Callable[[], Path]) -> Iterator[Path]:
    """Provide the directory in which a process works: the run directory or, beside the first process, a temporary copy.

    Args:
        make: finds or makes the directory; only the first process calls it.

    Raises:
        ConfigError: raised by `make`, in all processes.
    """
    if is_single_process():
        yield make()
    elif jax.process_index() == 0:
        try:
            path = make()
            packed = _OK + _pack(path)
        except ConfigError as error:
            _broadcast(_FAILED + str(error).encode())
            raise
        _broadcast(packed)
        yield path
    else:
        packed = _broadcast(b"")
        if packed.startswith(_FAILED):
            raise ConfigError(packed.removeprefix(_FAILED).decode())
        with TemporaryDirectory(prefix="metarule-") as copy:
            _unpack(packed.removeprefix(_OK), Path(copy))
            yield Path(copy)


def leave(status: int) -> NoReturn:
    """Exit without a message to the other processes, some of which may be gone; they notice it at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _connect(devices: Devices) -> None:
    auto, local = devices.coordinator == "auto", None if devices.use == "all" else range(devices.use)
    known = devices.coordinator, devices.processes, devices.process
    address, count, number = (None, None, None) if auto else known
    others = "the other processes" if auto else f"all of {devices.processes} processes"
    failed = f"devices.coordinator = '{devices.coordinator}': cannot connect to {others}"
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is answered by `StopRequest`
    timer = Timer(TIMEOUT, _time_out, (f"metarule: {failed} within {TIMEOUT} s",))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            local,
            initialization_timeout=2 * TIMEOUT,  # JAX would end the process with a stack trace
            heartbeat_timeout_seconds=TIMEOUT,
            shutdown_timeout_seconds=TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{failed}: {str(error).splitlines()[0]}") from error
    finally:
        timer.cancel()


def _time_out(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    leave(2)


def _broadcast(message: bytes) -> bytes:
    """Message of the first process, in all processes."""
    length = int(_gather(np.array(len(message)))[0])
    return _gather(np.frombuffer(message.ljust(length)[:length], np.uint8))[0].tobytes()


def _gather(own: np.ndarray) -> np.ndarray:
    """Arrays of all processes [processes, …], each from one device: processes may have any number of devices."""
    first = [jax.local_devices(number)[0] for number in range(jax.process_count())]
    mesh = jax.make_mesh((len(first),), ("processes",), axis_types=(jax.sharding.AxisType.Auto,), devices=first)
    with jax.set_mesh(mesh):
        split = jax.NamedSharding(mesh, jax.P("processes"))
        local = jax.make_array_from_process_local_data(split, own[None], (len(first), *own.shape))
        gathered = jax.jit(lambda array: array, out_shardings=jax.NamedSharding(mesh, jax.P()))(local)
        return np.asarray(gathered)


def _pack(path: Path) -> bytes:
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(path, ".")
    return packed.getvalue()


def _unpack(packed: bytes, path: Path) -> None:
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(path, filter="data")
