"""Choice between machine code and XLA's code, for time loops and for random numbers."""

import math
import os
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import jax

from metarule.kernels.log import LOG, warn
from metarule.kernels.scalars import Unsupported
from metarule.kernels.scan import Prepared, in_segments, prepare

__all__ = ["MODES", "compiled_scan", "draw_by_machine_code", "kernels", "why_not"]

MODES = ("auto", "on", "off")
# Numbers of a state, which are counted before the body is traced, and operations of a step, by backend. On CPUs the
# vectors of two states of 64-64-10 neurons just fit into the second cache. With 32 lifetimes a kernel takes a fourth of
# the time of XLA's loop there; larger networks have fewer lifetimes, which leave lanes idle: XLA's loop is as fast at
# 256-128-10 with 16 and faster at 128-64-10 with 8. Operations are limited for the time of the compiler. A thread of a
# GPU has 255 registers, which hold the adjoint of a step of some 65 numbers; with 130, two kB of each thread are in the
# cache.
_MOST = {"cpu": (6000, 100_000), "gpu": (128, 2000)}
# Pallas's compiler for GPUs knows NVIDIA's from Hopper on.
_OLDEST_GPU = 9.0
# Bytes of the states of a block that the adjoint loop stores at once, unless these are few steps: they should stay in
# the caches, and larger results are new memory in each call.
_STORED_BYTES = 2**21
_LANE_BYTES = 64

# Reasons that are no news.
_OFF, _EMPTY = "kernels are off", "the loop is empty"

# Set it with `with kernels("off"): …`. Programs that are compiled under one mode do not serve another.
kernels = jax.make_user_context(os.environ.get("METARULE_KERNELS") or "auto")


def compiled_scan(body: Callable[[Any, Any], Any], carry: Any, xs: Any) -> tuple[Any, Any] | None:
    """Run a scan as one operation of machine code, whose vector lanes are lifetimes; None where XLA's loop is better.

    States are stored for the backward pass as by `Remat`, or for a long loop as by `Segmented`.
    """
    prepared = _choose(body, carry, xs)
    if not isinstance(prepared, Prepared):
        _report(prepared)
        return None
    LOG.info("time loops are compiled to one operation each, in which lifetimes run side by side")
    length = len(jax.tree.leaves(xs)[0])
    most = max(_STORED_BYTES // (prepared.numbers * _LANE_BYTES), round(2 * length**0.5))
    return prepared.run(carry, xs) if length <= most else in_segments(prepared.run, most, carry, xs)


def draw_by_machine_code() -> None:
    """Draw random numbers on CPUs by machine code in this process, unless kernels are off; the numbers are the same."""
    if kernels.value != "off" and jax.default_backend() == "cpu" and _has_llvm():
        import_module("metarule.kernels.threefry").install()


def why_not(body: Callable[[Any, Any], Any], carry: Any, xs: Any) -> str:
    """Reason for which a scan is left to XLA; empty if it is compiled."""
    prepared = _choose(body, carry, xs)
    return "" if isinstance(prepared, Prepared) else str(prepared)


def _choose(body: Callable[[Any, Any], Any], carry: Any, xs: Any) -> Prepared | Unsupported | str:
    """Choose between a compiled loop and XLA's, for which there is a reason."""
    if kernels.value not in MODES:
        raise ValueError(f"METARULE_KERNELS = '{kernels.value}': allowed: {', '.join(MODES)}")
    if kernels.value == "off":
        return _OFF
    backend = jax.default_backend()
    if backend not in _MOST:
        return f"the device is a {backend}"
    if backend == "gpu" and not _is_recent():
        return "the GPU is not one of NVIDIA's from Hopper on"
    if backend == "cpu" and not _has_llvm():
        return "llvmlite is not installed"
    most_numbers, most_operations = _MOST[backend]
    numbers = sum(math.prod(jax.numpy.shape(leaf)) for leaf in jax.tree.leaves(carry))
    if not numbers or not jax.tree.leaves(xs) or not len(jax.tree.leaves(xs)[0]):
        return _EMPTY
    if kernels.value == "auto" and numbers > most_numbers:
        return f"a state has more than {most_numbers:,} numbers"
    try:
        prepared = prepare(body, carry, xs)
    except Unsupported as error:
        return error
    if kernels.value == "auto" and prepared.operations > most_operations:
        return f"a step has more than {most_operations:,} operations"
    import_module(f"metarule.kernels.{backend}")  # registers the operation with JAX
    return prepared


def _has_llvm() -> bool:
    return find_spec("llvmlite") is not None


def _is_recent() -> bool:
    """True if there is a compiler of kernels for this GPU."""
    capability = getattr(jax.local_devices()[0], "compute_capability", "")
    return bool(re.fullmatch(r"\d+\.\d", capability)) and float(capability) >= _OLDEST_GPU


def _report(reason: Unsupported | str) -> None:
    """Log why a loop is left to XLA; a small loop, which could be faster, draws a warning once."""
    if isinstance(reason, Unsupported):
        warn(str(reason))
    elif reason not in (_OFF, _EMPTY):
        LOG.info("a time loop is left to XLA: %s", reason)
