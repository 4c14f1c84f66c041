"""Limit of the machine: forward pass and adjoint by hand in C, compiled for each size in the fastest layout."""

import ctypes
import hashlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks.speeds.problem import Lifetimes
from benchmarks.timing import clocked, take_turns

__all__ = ["LAYOUTS", "Layout", "fastest", "prepare"]

_SOURCE = Path(__file__).parents[1] / "limit.c"
# Parts of -ffast-math: the whole would make the process that loads the library round small numbers to zero.
_FLAGS = (
    "-std=gnu11 -O3 -march=native -mprefer-vector-width=512 -fopenmp -shared -fPIC -fno-math-errno -fno-trapping-math"
    " -ffinite-math-only -fno-signed-zeros -fassociative-math -freciprocal-math"
)
_LANES = 16
_THREADS = 2
# Bytes of the weights of all steps that a thread may store; more are far from any cache.
_MOST_BYTES = 2**28
# For all calls of one layout.
_SECONDS = 0.5

_Outcome = tuple[Float[np.ndarray, "lifetimes"], Float[np.ndarray, "lifetimes 7"]]
# From θ to losses and ∂loss/∂θ of every lifetime.
_Gradients = Callable[[Float[np.ndarray, "7"]], _Outcome]


class Layout(NamedTuple):
    """Layout of the work.

    Attributes:
        by_lifetime: whether the lanes of a vector are lifetimes, or else neurons.
        groups: vectors that advance in step.
    """

    by_lifetime: bool
    groups: int

    def __str__(self) -> str:
        return f"lanes are {'lifetimes' if self.by_lifetime else 'neurons'}, groups of {self.groups}"


# One lifetime of a network that is larger than a vector keeps the processor busy.
LAYOUTS = (Layout(by_lifetime=False, groups=1), Layout(by_lifetime=True, groups=1), Layout(by_lifetime=True, groups=2))


def fastest(lifetimes: Lifetimes, bound: float, theta: Float[np.ndarray, "7"]) -> tuple[_Gradients, Layout]:
    """Prepare the layout that is fastest here: which one depends on the network and on the caches of the machine.

    Raises:
        ImportError: no compiler was found.
    """
    weights = lifetimes.inputs.shape[1] * (lifetimes.first[0].size + lifetimes.second[0].size)
    layouts = [one for one in LAYOUTS if not one.by_lifetime or 4 * _LANES * one.groups * weights <= _MOST_BYTES]
    prepared = [prepare(lifetimes, bound, layout) for layout in layouts]
    calls = [partial(gradients, theta) for gradients in prepared]
    timings = take_turns([(call, clocked(call)[1]) for call in calls], _SECONDS)
    best = min(range(len(timings)), key=lambda number: timings[number].minimum)
    return prepared[best], layouts[best]


def prepare(lifetimes: Lifetimes, bound: float, layout: Layout) -> _Gradients:
    """Compile the C code for some lifetimes, and lay them out for it.

    Args:
        lifetimes: as drawn.
        bound: of weights; math.inf for none.
        layout: of vectors.

    Returns:
        Function from θ to losses and ∂loss/∂θ of every lifetime.

    Raises:
        ImportError: no compiler was found.
    """
    (count, steps, inputs), (hidden, outputs) = lifetimes.inputs.shape, lifetimes.feedback.shape[:0:-1]
    (by_lifetime, groups), bounded = layout, math.isfinite(bound)
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
        heights = [4 // _width(-(-weights.shape[2] // _LANES)) for weights in (first, second)]
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
    width = _width(units)
    return weights.reshape(groups, rows, units // width, width, lanes).swapaxes(1, 2)


def _width(units: int) -> int:
    return next(width for width in (4, 3, 2, 1) if units % width == 0)
