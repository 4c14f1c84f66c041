"""Random numbers of JAX on CPUs, drawn by machine code: the same bit for bit, and programs compile faster."""

from functools import cache
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p
from jax.interpreters import mlir

from metarule.kernels.machine import register, template

__all__ = ["install"]

# Up to so many keys are rows, of some 20 ns each. More are repeated for each number, which fills all lanes but takes
# XLA longer to compile.
_MOST_ROWS = 4096


def install() -> None:
    """Draw all random numbers of this process by one operation, which XLA does not compile anew for each draw."""
    mlir.register_lowering(threefry2x32_p, mlir.lower_fun(_drawn, multiple_results=True), platform="cpu")


def _drawn(*operands: jax.Array) -> list[jax.Array]:
    """Compute two words of each number, from the two words of its key and the two words of its count."""
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    if not prod(shape):
        return [jnp.zeros(shape, jnp.uint32)] * 2
    padded = [operand.reshape((1,) * (len(shape) - operand.ndim) + operand.shape) for operand in operands]
    keys, counts = padded[:2], padded[2:]
    # Each key draws a row of numbers: trailing axes on which no key depends are its columns.
    axes = max((axis + 1 for axis in range(len(shape)) if any(key.shape[axis] > 1 for key in keys)), default=0)
    if prod(shape[:axes]) > _MOST_ROWS or prod(shape[axes:]) == 1:
        axes = len(shape)
    shares_counts = axes < len(shape) and all(prod(count.shape[:axes]) == 1 for count in counts)
    rows = (1,) * axes if shares_counts else shape[:axes]
    flat = [jnp.broadcast_to(key.reshape(key.shape[:axes]), shape[:axes]).reshape(-1) for key in keys]
    flat += [jnp.broadcast_to(count, rows + shape[axes:]).reshape(-1) for count in counts]
    words = [jax.ShapeDtypeStruct((prod(shape),), jnp.uint32)] * 2
    return [word.reshape(shape) for word in jax.ffi.ffi_call(_name(), words)(*flat)]


@cache
def _name() -> str:
    return register("threefry", template("threefry.ll", size=4))
