"""Limit of the machine: forward pass and adjoint by hand in C, compiled for each size."""

import ctypes
import hashlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks.speeds.problem import Lifetimes

__all__ = ["prepare"]

_SOURCE = Path(__file__).parents[1] / "limit.c"
# Parts of -ffast-math: the whole would make the process that loads the library round small numbers to zero.
_FLAGS = (
    "-std=gnu11 -O3 -march=native -mprefer-vector-width=512 -fopenmp -shared -fPIC -fno-math-errno -fno-trapping-math"
    " -ffinite-math-only -fno-signed-zeros -fassociative-math -freciprocal-math"
)
_LANES = 16
_THREADS = 2

_Outcome = tuple[Float[np.ndarray, "lifetimes"], Float[np.ndarray, "lifetimes 7"]]


def prepare(lifetimes: Lifetimes, bound: float) -> Callable[[Float[np.ndarray, "7"]], _Outcome]:
    """Compile the C code for some lifetimes, and lay them out for it.

    Args:
        lifetimes: as drawn.
        bound: of weights; math.inf for none.

    Returns:
        Function from θ to losses and ∂loss/∂θ of every lifetime.

    Raises:
        ImportError: no compiler was found.
    """
    (count, steps, inputs), (hidden, outputs) = lifetimes.inputs.shape, lifetimes.feedback.shape[:0:-1]
    by_lifetime, bounded = hidden < _LANES, math.isfinite(bound)
    # One lifetime of a larger network keeps the processor busy, and the first cache full.
    groups = 2 if by_lifetime else 1
    macros = {"INPUTS": inputs, "HIDDEN": hidden, "OUTPUTS": outputs, "STEPS": steps}
    library = _library(macros | {"BY_LIFETIME": int(by_lifetime), "GROUPS": groups, "BOUNDED": int(bounded)})
    arrays = _laid_out(lifetimes, by_lifetime, groups)
    results = _aligned(np.zeros((arrays[0].shape[0], 8, _LANES), np.float32))
    room = np.empty(_THREADS * library.room() // 4 + _LANES, np.float32)

    def pointer(array: Float[np.ndarray, "..."]) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data + -array.ctypes.data % 64)

    def gradients(theta: Float[np.ndarray, "7"]) -> _Outcome:
        library.gradients(
            len(results) // groups,
            _THREADS,
            ctypes.c_void_p(theta.ctypes.data),
            ctypes.c_float(bound if bounded else 0.0),
            *map(pointer, (*arrays, results, room)),
        )
        rows = results.swapaxes(1, 2).reshape(-1, 8) if by_lifetime else results[:, :, 0]
        return rows[:count, 0].copy(), rows[:count, 1:].copy()

    return gradients


def _library(macros: dict[str, int]) -> ctypes.CDLL:
    compiler = shutil.which("gcc")
    if compiler is None:
        raise ImportError("the limit in C needs gcc, which is not on the path", name="gcc")
    command = [compiler, *_FLAGS.split(), *(f"-D{name}={value}" for name, value in macros.items()), str(_SOURCE), "-lm"]
    key = hashlib.sha256(_SOURCE.read_bytes() + " ".join(command).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"metarule-limit-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / library.name
            subprocess.run([*command, "-o", str(built)], check=True)
            shutil.move(built, library)
    loaded = ctypes.CDLL(str(library))
    loaded.room.restype = ctypes.c_long
    return loaded


def _laid_out(lifetimes: Lifetimes, by_lifetime: bool, groups: int) -> list[Float[np.ndarray, "..."]]:
    """Weights of both layers, the feedback path and its transpose, signals and targets."""
    block = groups * (_LANES if by_lifetime else 1)
    first, second, feedback, inputs, targets = (
        np.concatenate([array, np.repeat(array[-1:], -len(array) % block, 0)]) for array in lifetimes
    )
    signals = np.concatenate([inputs, np.ones_like(inputs[..., :1])], -1)
    if not by_lifetime:
        # A sweep takes four vectors: parts of a row, or several rows.
        heights = [4 // math.gcd(-(-weights.shape[2] // _LANES), 4) for weights in (first, second)]
        first, second = (_filled(weights, 1, height) for weights, height in zip((first, second), heights))
        signals = _filled(signals, 2, heights[0])
    arrays = (
        _in_blocks(_in_vectors(first, by_lifetime)),
        _in_blocks(_in_vectors(second, by_lifetime)),
        _in_vectors(feedback, by_lifetime),
        _in_vectors(feedback.swapaxes(1, 2), by_lifetime),
        _in_vectors(signals, by_lifetime) if by_lifetime else signals,
        _in_vectors(targets, by_lifetime),
    )
    return [_aligned(array) for array in arrays]


def _aligned(array: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    # Vectors of 64 bytes are loaded from aligned addresses.
    room = np.empty(array.size + _LANES, np.float32)
    start = -room.ctypes.data % 64 // 4
    result = room[start : start + array.size].reshape(array.shape)
    result[...] = array
    return result


def _filled(array: Float[np.ndarray, "..."], axis: int, multiple: int) -> Float[np.ndarray, "..."]:
    return np.pad(array, [(0, -array.shape[axis] % multiple if i == axis else 0) for i in range(array.ndim)])


def _in_vectors(array: Float[np.ndarray, "lifetimes *rest"], by_lifetime: bool) -> Float[np.ndarray, "groups ..."]:
    # Lanes are lifetimes, or neurons of the last axis.
    if by_lifetime:
        return np.moveaxis(array.reshape(-1, _LANES, *array.shape[1:]), 1, -1)
    return _filled(array, array.ndim - 1, _LANES).reshape(*array.shape[:-1], -1, _LANES)


def _in_blocks(weights: Float[np.ndarray, "groups rows units 16"]) -> Float[np.ndarray, "groups blocks rows width 16"]:
    groups, rows, units, lanes = weights.shape
    width = math.gcd(units, 4)
    return weights.reshape(groups, rows, units // width, width, lanes).swapaxes(1, 2)
