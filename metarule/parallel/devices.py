"""Devices that share lifetimes: the accelerators of each machine, or else the cores of its CPU.

The mesh is ambient: within `with jax.set_mesh(mesh)`, whose axis is named `lifetimes`, all devices run the program of a
`sharded_jit` function, and each computes its share of the lifetimes. The commands set a mesh; user code may, too.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
from jax.stages import Wrapped
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.config.toml import ConfigError
from metarule.kernels import MODES, draw_by_machine_code, kernels

__all__ = ["LIFETIMES", "Devices", "affinity", "reserve", "sharded_jit", "single_device", "spread"]

LIFETIMES = "lifetimes"

# One CPU device splits each step of a lifetime among cores, and waits for them; one device a core waits once a
# meta-step. Each device holds a copy of the tasks, which limits their number.
_MOST_CORES = 8
_GROUPS = Path("/sys/fs/cgroup")
# XLA has at most this many threads for the devices of a CPU. A further device would never get a thread.
_MOST = 256
# Without these flags XLA ends the process if a device is late by a minute, as on a machine that was suspended.
_LONG_TIMEOUTS = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=1000000",
)
# The next level compiles twice as long, and its programs are no faster.
_FAST_COMPILATION = "--xla_backend_optimization_level=2"


def affinity() -> int:
    """Number of cores that this process may use by its affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores() -> int:
    """Number of cores that this process may use: by its affinity, the quota of its container, and XLA's `NPROC`."""
    given = os.environ.get("NPROC", "")
    limits = [affinity(), _quota(), _MOST_CORES, *([int(given)] if given.isdecimal() else [])]
    return max(min(limits), 1)


def _quota() -> int:
    """Cores that the control group of a container grants, rounded up; `_MOST_CORES` where it grants all."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # versions 2 and 1
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = (int(word) for name in names for word in (_GROUPS / name).read_text().split())
            return -(-quota // period) if quota > 0 else _MOST_CORES
    return _MOST_CORES


class Devices(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Devices and processes of a command; results depend on them by rounding alone.

    Attributes:
        use: devices of this machine, a number or all. On a CPU a device is a core; more devices than cores take turns.
        matmul: precision of float32 matrix products: the hardware's default, which is the fastest, high (three passes
            of bfloat16), or highest (float32). TF32 on a GPU changes a θ-gradient by a few thousandths if weights are
            at their bound.
        kernels: on compiles each time loop to one operation wherever it can, auto where that is faster, off nowhere.
            On CPUs random numbers are drawn by one operation, too, unless it is off. auto follows the variable
            METARULE_KERNELS, if that is set.
        coordinator: HOST:PORT of process 0, the same for all processes, or auto under SLURM, Open MPI or on a TPU pod;
            empty for a run in one process.
        processes: processes of this run, on one machine or many.
        process: number of this process, from 0; process 0 is at the coordinator's address, and it alone writes.

    Raises:
        ValueError: a coordinator without other processes, or other processes without a coordinator.
    """

    use: Annotated[int, Meta(ge=1, le=_MOST)] | Literal["all"] = "all"
    matmul: Literal["default", "high", "highest"] = "highest"
    kernels: Literal["auto", "on", "off"] = "auto"
    coordinator: str = ""
    processes: Annotated[int, Meta(ge=1)] = 1
    process: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.process >= self.processes:
            raise ValueError(f"process = {self.process}: allowed: 0 to processes - 1, which is {self.processes - 1}")
        if self.processes == 1 and self.coordinator not in ("", "auto"):
            raise ValueError(f"coordinator = '{self.coordinator}': processes = 1; allowed: with 2 processes or more")
        if self.processes > 1 and self.coordinator in ("", "auto"):
            reason = "; auto finds their number" if self.coordinator else ""
            raise ValueError(
                f"processes = {self.processes}: coordinator = '{self.coordinator}'; "
                f"allowed: with coordinator = 'HOST:PORT' alone{reason}"
            )
        host, _, port = self.coordinator.rpartition(":")
        named = host.strip() and port.isdecimal() and 0 < int(port) < 2**16
        if self.coordinator not in ("", "auto") and not named:
            raise ValueError(f"coordinator = '{self.coordinator}': allowed: HOST:PORT, such as 10.0.0.1:1234, or auto")


_ALL = Devices()


@contextmanager
def spread(devices: Devices = _ALL) -> Iterator[None]:
    """Compute on the mesh of all devices, which is ambient if there are several and no mesh was set before.

    On a CPU each core is a device, unless the user has set their number, and random numbers are drawn by machine code
    from then on, unless kernels are off.

    Raises:
        ConfigError: more devices than the machine has, no device of the platform that JAX is set to use, or another
            word than those of `kernels` in the variable METARULE_KERNELS.
    """
    if kernels.value not in MODES:
        raise ConfigError(f"METARULE_KERNELS = '{kernels.value}': allowed: {', '.join(MODES)}")
    reserve(devices.use)
    used = _available(devices.use)
    if len(used) == 1 or not jax.sharding.get_abstract_mesh().empty:
        mesh = jax.default_device(used[0]) if devices.use != "all" else nullcontext()
    else:
        kinds = (jax.sharding.AxisType.Auto,)
        mesh = jax.set_mesh(jax.make_mesh((len(used),), (LIFETIMES,), axis_types=kinds, devices=used))
    precision = None if devices.matmul == "default" else devices.matmul
    mode = nullcontext() if devices.kernels == "auto" else kernels(devices.kernels)
    products = jax.default_matmul_precision(precision) if precision else nullcontext()
    # Regardless of the user's settings: Optax relies on promotion, and a seed has to give the same random numbers.
    with mesh, mode, products, jax.numpy_dtype_promotion("standard"), jax.threefry_partitionable(True):
        draw_by_machine_code()
        yield


def single_device() -> AbstractContextManager[Any]:
    """Compute on the first device of the ambient mesh, for programs that are too small to share out."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty or mesh.size == 1:
        return nullcontext()
    kinds = (jax.sharding.AxisType.Auto,)
    first = jax.make_mesh((1,), (LIFETIMES,), axis_types=kinds, devices=list(mesh.devices.flat)[:1])
    return jax.set_mesh(first)


def reserve(use: int | Literal["all"]) -> None:
    """Set the number of devices of a CPU before one is used; all means one a core, unless the user has set a number."""
    flags = os.environ.get("XLA_FLAGS", "")
    free = jax.config.values["jax_num_cpu_devices"] < 0 and "host_platform_device_count" not in flags
    if free or use != "all":
        with suppress(RuntimeError):  # the number of devices is fixed after the first computation
            jax.config.update("jax_num_cpu_devices", _cores() if use == "all" else use)
    added = [] if "backend_optimization_level" in flags else [_FAST_COMPILATION]
    if jax.config.values["jax_num_cpu_devices"] != 1 and "collective_call" not in flags:
        added += _LONG_TIMEOUTS
    os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *added])


def _available(use: int | Literal["all"]) -> list[jax.Device]:
    try:
        available = jax.devices()
    except (AssertionError, RuntimeError) as error:  # for example, `JAX_PLATFORMS` names a missing platform
        message = str(error).partition("\n")[0] or f"JAX_PLATFORMS = '{jax.config.values['jax_platforms'] or ''}'"
        raise ConfigError(f"devices: JAX finds none: {message}") from error
    if use == "all" and (count := jax.local_device_count()) > _MOST and available[0].platform == "cpu":
        raise ConfigError(f"JAX_NUM_CPU_DEVICES or XLA_FLAGS: {count} devices of a CPU; allowed: at most {_MOST}")
    if use == "all" or jax.process_count() > 1:  # several processes have chosen their devices before
        return available
    if use > len(available):
        raise ConfigError(f"devices.use = {use}: allowed: at most {len(available)}, the devices of this machine")
    return available[:use]


def sharded_jit(*static: str, donated: str = "") -> Callable[[Callable[..., Any]], Wrapped]:
    """Decorate like `jax.jit`, and run the program on all devices of the mesh, so that `batch_lifetimes` can use them.

    Every device receives all arguments, and computes everything but the lifetimes, of which it computes its share.
    Without a mesh the decorator is `jax.jit`. Differentiate the whole program or one lifetime in it, never a sum over
    lifetimes inside it: each device would have the derivative of its share alone.

    Args:
        static: names of the arguments that are not arrays; the function closes over no arrays.
        donated: name of the argument whose memory the result may take, and which is invalid afterwards; empty for none.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> Wrapped:
        signature = inspect.signature(function)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            arrays = {name: value for name, value in bound.arguments.items() if name not in static}

            def program(traced: dict[str, Any]) -> Any:
                bound.arguments.update(traced)
                return function(*bound.args, **bound.kwargs)

            mesh = jax.sharding.get_abstract_mesh()
            if LIFETIMES in mesh.axis_names and LIFETIMES not in mesh.manual_axes:
                return jax.shard_map(program, in_specs=jax.P(), out_specs=jax.P(), check_vma=False)(arrays)
            return program(arrays)

        return jax.jit(run, static_argnames=static, donate_argnames=donated or None)

    return decorate
