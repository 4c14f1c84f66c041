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

__all__ = ["LIVES", "all_devices", "cores", "everywhere"]

LIVES = "lives"

# XLA splits every step of a life among the cores, and waits for all of them: lives on a device a core wait once. Each
# device has a copy of the tasks, so that there is an end to it.
_MOST_CORES = 8


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def all_devices() -> AbstractContextManager:
    """The mesh of all devices of this machine, each core of a CPU one of them unless the user has set their number.

    Returns:
        What to compute in; nothing where there is one device alone, or a mesh already.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.config.values["jax_num_cpu_devices"] < 0 and "host_platform_device_count" not in flags:
        with suppress(RuntimeError):  # a process that has begun to compute keeps the devices that it has
            jax.config.update("jax_num_cpu_devices", min(cores(), _MOST_CORES))
    count = jax.local_device_count()
    if count == 1 or not jax.sharding.get_abstract_mesh().empty:
        return nullcontext()
    return jax.set_mesh(jax.make_mesh((count,), (LIVES,), axis_types=(jax.sharding.AxisType.Auto,)))


def everywhere(*static: str) -> Callable[[Callable[..., Any]], Wrapped]:
    """Decorate as `jax.jit` does: the program runs on all devices of the mesh, so that lives in it can be spread.

    Every device is given everything, and computes everything but the lives. Without such a mesh it is `jax.jit`.

    Args:
        static: names of the arguments that are no arrays; the function closes over none.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., Any]) -> Wrapped:
        signature = inspect.signature(function)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            named = signature.bind(*args, **kwargs).arguments
            fixed = {name: named.pop(name) for name in static if name in named}

            def program(given: dict[str, Any]) -> Any:
                return function(**given, **fixed)

            mesh = jax.sharding.get_abstract_mesh()
            if LIVES in mesh.axis_names and LIVES not in mesh.manual_axes:
                return jax.shard_map(program, in_specs=jax.P(), out_specs=jax.P(), check_vma=False)(named)
            return program(named)

        return jax.jit(run, static_argnames=static)

    return decorate
