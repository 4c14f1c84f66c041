"""Devices that lives are spread over: the accelerators of this machine, or else the cores of its CPU.

A mesh is ambient, as JAX has it: within `with jax.set_mesh(mesh)`, whose axis is named `lives`, all devices run the
same program `everywhere`, and each lives its share of the lives. The commands set one; so may one's own code.
"""

import inspect
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import wraps
from typing import Any

import jax
from jax.stages import Wrapped

__all__ = ["LIVES", "all_devices", "everywhere"]

LIVES = "lives"

# XLA splits every step of a life among the cores, and waits for all of them: lives on a device a core wait once. Each
# device has a copy of the tasks, so that there is an end to it.
_MOST_CORES = 8
# Devices wait for the slowest, as long as it takes: XLA ends the process after a minute, be it that the machine slept.
_PATIENT = (
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=1000000",
)


def _cores() -> int:
    """Cores that this process may use: by its affinity, the quota of its container, and what XLA goes by."""
    from joblib import cpu_count  # takes a fifth of a second

    given = os.environ.get("NPROC", "")
    limits = [cpu_count(), _MOST_CORES, *([int(given)] if given.isdecimal() else [])]
    return max(min(limits), 1)


def all_devices() -> AbstractContextManager:
    """The mesh of all devices of this machine, each core of a CPU one of them unless the user has set their number.

    Returns:
        What to compute in; nothing where there is one device alone, or a mesh already.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.config.values["jax_num_cpu_devices"] < 0 and "host_platform_device_count" not in flags:
        with suppress(RuntimeError):  # a process that has begun to compute keeps the devices that it has
            jax.config.update("jax_num_cpu_devices", _cores())
    if jax.config.values["jax_num_cpu_devices"] != 1 and "collective_call" not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *_PATIENT])
    count = jax.local_device_count()
    if count == 1 or not jax.sharding.get_abstract_mesh().empty:
        return nullcontext()
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.set_mesh(jax.make_mesh((count,), (LIVES,), axis_types=kinds, devices=jax.local_devices()))


def everywhere(*static: str) -> Callable[[Callable[..., Any]], Wrapped]:
    """Decorate as `jax.jit` does: the program runs on all devices of the mesh, so that lives in it can be spread.

    Every device is given everything, and computes everything but the lives. Without such a mesh it is `jax.jit`.
    Differentiate the program as a whole, or a life in it, but no sum over lives within it: each device would know the
    derivative of its share alone.

    Args:
        static: names of the arguments that are no arrays; the function closes over none.

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
            if LIVES in mesh.axis_names and LIVES not in mesh.manual_axes:
                return jax.shard_map(program, in_specs=jax.P(), out_specs=jax.P(), check_vma=False)(arrays)
            return program(arrays)

        return jax.jit(run, static_argnames=static)

    return decorate
