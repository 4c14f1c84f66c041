"""Limit of the machine: forward pass and adjoint by hand in C, compiled for each size."""

import ctypes
import hashlib
import math
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks.speeds.problem import Lifetimes, Size

__all__ = ["Prepared", "Unavailable", "gradients", "prepare"]

_SOURCE = Path(__file__).parents[1] / "limit.c"
# Parts of -ffast-math: the whole would make the process that loads the library round small numbers to zero.
_FLAGS = (
    "-std=gnu11 -O3 -march=native -mprefer-vector-width=512 -fopenmp -shared -fPIC -fno-math-errno -fno-trapping-math"
)
_FLAGS += " -ffinite-math-only -fno-signed-zeros -fassociative-math -freciprocal-math"
_LANES = 16
_THREADS = 2


class Unavailable(Exception):
    """No compiler was found."""


class Prepared(NamedTuple):
    """Lifetimes, laid out for the C code.

    Attributes:
        size: of the problem.
        together: groups that run in step.
        side: lanes of a vector are lifetimes, not neurons.
        arrays: weights of both layers, the feedback path and its transpose, signals and targets.
        results: losses and gradients of all groups.
        rooms: scratch memory of the threads, for the library with and without a bound.
    """

    size: Size
    together: int
    side: bool
    arrays: tuple[Float[np.ndarray, "..."], ...]
    results: Float[np.ndarray, "groups 8 16"]
    rooms: dict[bool, Float[np.ndarray, "room"]]


@cache
def _library(size: Size, together: int, side: bool, bounded: bool) -> ctypes.CDLL:
    compiler = shutil.which("gcc")
    if compiler is None:
        raise Unavailable("the limit in C needs gcc, which is not on the path")
    macros = {
        "INPUTS": size.inputs,
        "HIDDEN": size.hidden,
        "OUTPUTS": size.outputs,
        "PRESENTATIONS": size.steps,
    }
    macros |= {"SIDE": int(side), "TOGETHER": together, "BOUNDED": int(bounded)}
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


def _aligned(array: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    # Vectors of 64 bytes are loaded from aligned addresses.
    room = np.empty(array.size + _LANES, np.float32)
    start = -room.ctypes.data % 64 // 4
    result = room[start : start + array.size].reshape(array.shape)
    result[...] = array
    return result


def _filled(array: Float[np.ndarray, "..."], axis: int, multiple: int) -> Float[np.ndarray, "..."]:
    return np.pad(array, [(0, -array.shape[axis] % multiple if i == axis else 0) for i in range(array.ndim)])


def _in_vectors(array: Float[np.ndarray, "lifetimes *rest"], side: bool) -> Float[np.ndarray, "groups ..."]:
    # Lanes are neurons of the last axis, or lifetimes.
    if side:
        return np.moveaxis(array.reshape(-1, _LANES, *array.shape[1:]), 1, -1)
    return _filled(array, array.ndim - 1, _LANES).reshape(*array.shape[:-1], -1, _LANES)


def _in_blocks(weights: Float[np.ndarray, "groups rows units 16"]) -> Float[np.ndarray, "groups blocks rows width 16"]:
    groups, rows, units, lanes = weights.shape
    width = math.gcd(units, 4)
    return weights.reshape(groups, rows, units // width, width, lanes).swapaxes(1, 2)


def prepare(lifetimes: Lifetimes) -> Prepared:
    """Lay out lifetimes for the C code.

    Args:
        lifetimes: as drawn.

    Returns:
        Argument of `gradients`.
    """
    (count, steps, inputs), (hidden, outputs) = lifetimes.inputs.shape, lifetimes.feedback.shape[:0:-1]
    size = Size(inputs, hidden, outputs, steps, count)
    side = hidden < _LANES
    # One lifetime of a larger network keeps the processor busy, and the first cache full.
    together = 2 if side else 1
    block = together * (_LANES if side else 1)
    filled = [np.concatenate([array, np.repeat(array[-1:], -count % block, 0)]) for array in lifetimes]
    first, second, feedback, train_examples, targets = filled
    signals = np.concatenate([train_examples, np.ones_like(train_examples[..., :1])], -1)
    if not side:
        # A sweep takes four vectors: parts of a row, or several rows.
        heights = [4 // math.gcd(-(-neurons // _LANES), 4) for neurons in (hidden, outputs)]
        first, second = (_filled(weights, 1, height) for weights, height in zip((first, second), heights))
        signals = _filled(signals, 2, heights[0])
    arrays = (
        _in_blocks(_in_vectors(first, side)),
        _in_blocks(_in_vectors(second, side)),
        _in_vectors(feedback, side),
        _in_vectors(feedback.swapaxes(1, 2), side),
        _in_vectors(signals, side) if side else signals,
        _in_vectors(targets, side),
    )
    results = _aligned(np.zeros((arrays[0].shape[0], 8, _LANES), np.float32))
    return Prepared(size, together, side, tuple(_aligned(array) for array in arrays), results, {})


def gradients(
    theta: Float[np.ndarray, "7"], lifetimes: Prepared, bound: float = 2.0
) -> tuple[Float[np.ndarray, "lifetimes"], Float[np.ndarray, "lifetimes 7"]]:
    """Loss and ∂loss/∂θ of every lifetime.

    Args:
        theta: of the rule.
        lifetimes: as prepared.
        bound: of weights; math.inf for none.

    Returns:
        Losses and gradients.

    Raises:
        Unavailable: no compiler was found.
    """
    bounded = math.isfinite(bound)
    library = _library(lifetimes.size, lifetimes.together, lifetimes.side, bounded)
    if bounded not in lifetimes.rooms:
        lifetimes.rooms[bounded] = np.empty(_THREADS * library.room() // 4 + _LANES, np.float32)
    room = lifetimes.rooms[bounded].ctypes.data
    rule = np.ascontiguousarray(theta, np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*lifetimes.arrays, lifetimes.results)]
    library.gradients(
        lifetimes.results.shape[0] // lifetimes.together,
        _THREADS,
        ctypes.c_void_p(rule.ctypes.data),
        ctypes.c_float(bound if bounded else 0.0),
        *pointers,
        ctypes.c_void_p(room + -room % 64),
    )
    results = lifetimes.results.swapaxes(1, 2).reshape(-1, 8) if lifetimes.side else lifetimes.results[:, :, 0]
    return results[: lifetimes.size.lifetimes, 0].copy(), results[: lifetimes.size.lifetimes, 1:].copy()
