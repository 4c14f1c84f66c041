"""Loops on CPUs: machine code that XLA calls as one operation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from metarule.kernels.log import warn
from metarule.kernels.loops import adjoint_p, forward_p, in_xla
from metarule.kernels.machine import lanes, register, template
from metarule.kernels.packing import Kernel, on_vectors
from metarule.kernels.scalars import Unsupported
from metarule.kernels.steps import adjoint_text, step_text
from metarule.kernels.vectors import Code

__all__: list[str] = []


def _module(kernel: Kernel, bits: int) -> tuple[str, int]:
    """Write the module of a kernel: (text, vectors of memory that a step needs)."""
    code = Code(lanes(bits), bits)
    if kernel.active is None:
        (step, vectors), name = step_text(kernel.loop, kernel.shared, code), "forward.ll"
    else:
        (step, vectors), name = adjoint_text(kernel.loop, kernel.shared, kernel.active, code), "adjoint.ll"
    loops = template(name, size=bits // 8)
    return "\n".join([*sorted(code.intrinsics), step, loops]), vectors


def _run(kernel: Kernel, given: Sequence[jax.Array], shapes: Sequence[jax.ShapeDtypeStruct]) -> Sequence[jax.Array]:
    bits = given[0].dtype.itemsize * 8
    text, vectors = _module(kernel, bits)
    memory = jax.ShapeDtypeStruct((vectors, lanes(bits)), given[0].dtype)
    return jax.ffi.ffi_call(register("loop", text), [*shapes, memory])(*given)[:-1]


def _compiled_or_not(primitive: Primitive) -> Callable[..., Sequence[Any]]:
    """What an operation computes, by machine code unless its step is large and has no rolled form."""

    def computed(*operands: Any, **params: Any) -> Sequence[Any]:
        try:
            return on_vectors(_run, lanes)(*operands, **params)
        except Unsupported as error:
            warn(str(error))
            return in_xla[primitive](*operands, **params)

    return computed


for _primitive in (forward_p, adjoint_p):
    _lowered = mlir.lower_fun(_compiled_or_not(_primitive), multiple_results=True)
    mlir.register_lowering(_primitive, _lowered, platform="cpu")
