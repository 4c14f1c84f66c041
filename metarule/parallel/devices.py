"""Devices that lives are spread over: the accelerators of each machine, or else the cores of its CPU.

A mesh is ambient, as JAX has it: within `with jax.set_mesh(mesh)`, whose axis is named `lives`, all devices run the
same program `sharded_jit`, and each lives its share of the lifetimes. The commands set one; so may one's own code.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
from jax.stages import Wrapped
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.config.toml import ConfigError

__all__ = ["LIFETIMES", "Devices", "reserve", "sharded_jit", "spread"]

LIFETIMES = "lifetimes"

# XLA splits every step of a lifetime among the cores, and waits for all of them: lives on a device a core wait once.
# Each device has a copy of the tasks, so that there is an end to it.
_MOST_CORES = 8
_GROUPS = Path("/sys/fs/cgroup")
# Threads that XLA has for the devices of a CPU at most: one more would wait for a thread, and the others for it.
_MOST = 256
# Devices wait for the slowest, as long as it takes: XLA ends the process after a minute, be it that the machine slept.
_PATIENT = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=1000000",
)


def _cores() -> int:
    """Cores that this process may use: by its affinity, the quota of its container, and the limit that XLA reads."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("NPROC", "")
    limits = [affinity, _quota(), _MOST_CORES, *([int(given)] if given.isdecimal() else [])]
    return max(min(limits), 1)


def _quota() -> int:
    """Cores that the control group of a container grants, rounded up; `_MOST_CORES` where it grants all."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # versions 2 and 1
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = (int(word) for name in names for word in (_GROUPS / name).read_text().split())
            return -(-quota // period) if quota > 0 else _MOST_CORES
    return _MOST_CORES


class Devices(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a command computes: no part of an experiment, whose results depend on it by rounding alone.

    Attributes:
        use: how many devices of this machine take part. On a CPU each is a core; more than there are take turns.
        matmul: precision of matrix products of float32, where the hardware has faster ones than its own. Of those a GPU
            has, TF32 puts a θ-gradient off by a few thousandths where weights are at their bound.
        coordinator: where the processes of one run find each other; empty for a run in one process.
        processes: how many they are.
        process: which of them this is; number 0 is at the coordinator's address, and alone writes.

    Raises:
        ValueError: a coordinator without other processes, or other processes without one.
    """

    use: Annotated[
        Annotated[int, Meta(ge=1, le=_MOST)] | Literal["all"],
        Meta(description="devices of this machine that take part, a number or all"),
    ] = "all"
    matmul: Annotated[
        Literal["default", "high", "highest"],
        Meta(description="precision of matrix products: what is fastest, three passes of bfloat16, or float32"),
    ] = "highest"
    coordinator: Annotated[
        str,
        Meta(description="HOST:PORT of process 0, the same for all; auto under SLURM, Open MPI or on a TPU pod"),
    ] = ""
    processes: Annotated[int, Meta(ge=1, description="processes of this run, on one machine or many")] = 1
    process: Annotated[int, Meta(ge=0, description="number of this one, from 0")] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process >= self.processes:
            raise ValueError(f"process = {self.process}: allowed: 0 to processes - 1, which is {self.processes - 1}")
        if self.processes == 1 and self.coordinator not in ("", "auto"):
            raise ValueError(f"coordinator = '{self.coordinator}': with processes = 2 or more alone, which are 1")
        if self.processes > 1 and self.coordinator in ("", "auto"):
            raise ValueError(
                f"processes = {self.processes}: with a coordinator = 'HOST:PORT' alone; "
                f"it is {self.coordinator!r}, and {'tells' if self.coordinator else 'makes'} their number"
            )
        host, _, port = self.coordinator.rpartition(":")
        named = host.strip() and port.isdecimal() and 0 < int(port) < 2**16
        if self.coordinator not in ("", "auto") and not named:
            raise ValueError(f"coordinator = '{self.coordinator}': allowed: HOST:PORT, such as 10.0.0.1:1234, or auto")


_ALL = Devices()


@contextmanager
def spread(devices: Devices = _ALL) -> Iterator[None]:
    """Compute on the mesh of all devices, each core of a CPU one of them unless the user has set their number.

    Args:
        devices: which of them, and how precisely they multiply.

    Yields:
        Within it the mesh is ambient, where there is more than one device and no mesh already.

    Raises:
        ConfigError: more accelerators than there are, or none of the kind that JAX is told to use.
    """
    reserve(devices.use)
    found = _found(devices.use)
    if len(found) == 1 or not jax.sharding.get_abstract_mesh().empty:
        mesh = jax.default_device(found[0]) if devices.use != "all" else nullcontext()
    else:
        kinds = (jax.sharding.AxisType.Auto,)
        mesh = jax.set_mesh(jax.make_mesh((len(found),), (LIFETIMES,), axis_types=kinds, devices=found))
    precision = None if devices.matmul == "default" else devices.matmul
    with mesh, jax.default_matmul_precision(precision) if precision else nullcontext():
        yield


def reserve(use: int | Literal["all"]) -> None:
    """Have as many devices of a CPU as are wanted; to be called before the first is used.

    Args:
        use: their number, or all, which is one for each core unless the user has set another number.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    free = jax.config.values["jax_num_cpu_devices"] < 0 and "host_platform_device_count" not in flags
    if free or use != "all":
        with suppress(RuntimeError):  # a process that has begun to compute keeps the devices that it has
            jax.config.update("jax_num_cpu_devices", _cores() if use == "all" else use)
    if jax.config.values["jax_num_cpu_devices"] != 1 and "collective_call" not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *_PATIENT])


def _found(use: int | Literal["all"]) -> list[jax.Device]:
    try:
        found = jax.devices()
    except (AssertionError, RuntimeError) as error:  # as where `JAX_PLATFORMS` names what is not there
        says = str(error).partition("\n")[0] or f"JAX_PLATFORMS = '{jax.config.values['jax_platforms'] or ''}'"
        raise ConfigError(f"devices: JAX finds none: {says}") from error
    if use == "all" and (count := jax.local_device_count()) > _MOST and found[0].platform == "cpu":
        raise ConfigError(f"JAX_NUM_CPU_DEVICES or XLA_FLAGS: {count} devices of a CPU; allowed: at most {_MOST}")
    if use == "all" or jax.process_count() > 1:  # then each process has made its choice
        return found
    if use > len(found):
        raise ConfigError(f"devices.use = {use}: allowed: at most {len(found)}, which are on this machine")
    return found[:use]


def sharded_jit(*static: str, donated: str = "") -> Callable[[Callable[..., Any]], Wrapped]:
    """Decorate as `jax.jit` does: the program runs on all devices of the mesh, so that lives in it can be spread.

    Every device is given everything, and computes everything but the lifetimes. Without such a mesh it is `jax.jit`.
    Differentiate the program as a whole, or a lifetime in it, but no sum over lifetimes within it: each device would
    know the derivative of its share alone.

    Args:
        static: names of the arguments that are no arrays; the function closes over none.
        donated: name of the argument whose memory the result may take, and which is of no use afterwards; none if
            empty.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> Wrapped:
        signature = inspect.signature(function)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            arrays = {name: value for name, value in bound.arguments.items() if name not in static}

            def program(given: dict[str, Any]) -> Any:
                bound.arguments.update(given)
                return function(*bound.args, **bound.kwargs)

            mesh = jax.sharding.get_abstract_mesh()
            if LIFETIMES in mesh.axis_names and LIFETIMES not in mesh.manual_axes:
                return jax.shard_map(program, in_specs=jax.P(), out_specs=jax.P(), check_vma=False)(arrays)
            return program(arrays)

        return jax.jit(run, static_argnames=static, donate_argnames=donated or None)

    return decorate
