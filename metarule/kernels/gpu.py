"""Loops on GPUs: a Pallas kernel that XLA calls as one operation, in which each thread is a lifetime."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import jax
import jax.experimental.pallas.mosaic_gpu as mosaic
from jax import lax
from jax.experimental import pallas
from jax.interpreters import mlir

from metarule.kernels.loops import adjoint_p, forward_p
from metarule.kernels.packing import Kernel, on_vectors
from metarule.kernels.steps import Body, adjoint_body, computed, step_body

__all__: list[str] = []

# Mosaic runs groups of this many threads, each of which has one lane of a vector in a register.
_LANES = 128

_LOGICAL = {"and": lax.bitwise_and, "or": lax.bitwise_or, "xor": lax.bitwise_xor}


@dataclass(frozen=True, eq=False)
class _Vector:
    """One number of each lane. NumPy does not look into it, as it would into an array."""

    lanes: jax.Array


class _Vectors:
    """Operations on vectors of one precision."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def unary(self, name: str, x: Any) -> Any:
        """Apply a function of one number."""
        return _COMPOSED[name](self, x) if name in _COMPOSED else _Vector(getattr(lax, name)(x.lanes))

    def binary(self, name: str, x: Any, y: Any) -> Any:
        """Apply a function of two numbers, or of two truth values."""
        return _Vector((_LOGICAL.get(name) or getattr(lax, name))(self.lanes(x), self.lanes(y)))

    def select(self, which: Any, true: Any, false: Any) -> Any:
        """Choose one of two values."""
        return _Vector(lax.select(*map(self.lanes, (which, true, false))))

    def lanes(self, value: Any) -> jax.Array:
        """A vector or a constant as an array."""
        if isinstance(value, _Vector):
            return value.lanes
        return lax.full((_LANES,), value, bool if isinstance(value, bool) else self._dtype)


# --- Functions that Mosaic lacks


def _sqrt(ops: _Vectors, x: Any) -> Any:
    itself = ops.binary("or", ops.binary("eq", x, 0.0), ops.binary("eq", x, inf))
    return ops.select(itself, x, ops.binary("mul", x, ops.unary("rsqrt", x)))


def _expm1(ops: _Vectors, x: Any) -> Any:
    """exp(x) − 1; near zero it is 2·t / (1 − t) with t = tanh(x / 2), where no digits are lost."""
    t = ops.unary("tanh", ops.binary("mul", x, 0.5))
    near = ops.binary("div", ops.binary("mul", t, 2.0), ops.binary("sub", 1.0, t))
    return _near_zero(ops, x, near, ops.binary("sub", ops.unary("exp", x), 1.0))


def _log1p(ops: _Vectors, x: Any) -> Any:
    """log(1 + x); near zero a step of Newton's method, from exp(y) − 1 = x, brings back the digits that are lost."""
    y = ops.unary("log", ops.binary("add", x, 1.0))
    e = _expm1(ops, y)
    step = ops.binary("div", ops.binary("sub", e, x), ops.binary("add", e, 1.0))
    return _near_zero(ops, x, ops.binary("sub", y, step), y)


def _near_zero(ops: _Vectors, x: Any, near: Any, far: Any) -> Any:
    return ops.select(ops.binary("lt", ops.unary("abs", x), 0.5), near, far)


_COMPOSED = {"expm1": _expm1, "log1p": _log1p, "sqrt": _sqrt}


# --- Kernels: each runs one block of lifetimes

_Numbers = dict[int, jax.Array]


def _load(ref: Any, *place: Any) -> _Numbers:
    """Load the numbers at a block, or at a block and a step; none from an array of no numbers, which has no ref."""
    return {} if ref is None else {number: ref[*place, number, :] for number in range(ref.shape[-2])}


def _store(ref: Any, numbers: _Numbers, *place: Any) -> None:
    """Store numbers, if they are wanted."""
    for index, number in numbers.items() if ref is not None else ():
        ref[*place, index, :] = number


def _constants(shared: Any, constants: Any, block: Any) -> dict[str, _Numbers]:
    """Load the constants."""
    each = range(0 if shared is None else shared.size)
    return {
        "%shared": {number: lax.broadcast(shared[number], (_LANES,)) for number in each},
        "%constants": _load(constants, block),
    }


def _evaluated(body: Body, given: Mapping[str, _Numbers]) -> Mapping[str, _Numbers]:
    """Arrays after a step, from arrays before it."""
    some = given["%state"][0]
    ops = _Vectors(some.dtype)
    arrays = defaultdict[str, _Numbers](dict, {name: dict(numbers) for name, numbers in given.items()})
    for name, index, value in computed(body, lambda place, index: _Vector(given[place.pointer][index]), ops):
        arrays[name][index] = _carried(ops.lanes(value), some)
    return arrays


def _carried(value: jax.Array, some: jax.Array) -> jax.Array:
    """A value as a loop carries it: Mosaic takes no constant where a vector may follow."""
    return lax.select(lax.lt(some, some), some, value)


def _forward(body: Body, steps: int, block: Any, given: Sequence[Any], results: Sequence[Any]) -> None:
    """Run steps from the first to the last."""
    shared, constants, before, stimuli = given
    after, observables, rows = results
    fixed = _constants(shared, constants, block)

    def step(t: Any, carry: Any) -> Any:
        state, x = carry
        # Stimuli of the next step arrive while this one is computed.
        following = _load(stimuli, block, lax.min(t + 1, steps - 1))
        _store(rows, state, block, t)
        arrays = _evaluated(body, fixed | {"%state": state, "%stimulus": x})
        _store(observables, arrays["%observables"], block, t)
        return arrays["%after"], following

    state, _ = lax.fori_loop(0, steps, step, (_load(before, block), _load(stimuli, block, 0)))
    _store(after, state, block)


def _adjoint(body: Body, steps: int, block: Any, given: Sequence[Any], results: Sequence[Any]) -> None:
    """Run adjoints of steps from the last to the first."""
    shared, constants, rows, stimuli, of_after, of_observables = given
    of_constants, of_states, of_stimuli = results
    fixed = _constants(shared, constants, block)

    def at(t: Any) -> list[_Numbers]:
        return [_load(ref, block, t) for ref in (rows, stimuli, of_observables)]

    def step(done: Any, carry: Any) -> Any:
        sums, g, (state, x, gy) = carry
        t = steps - 1 - done
        following = at(lax.max(t - 1, 0))
        arrays = _evaluated(body, fixed | {"%state": state, "%stimulus": x, "%g": g, "%gy": gy, "%dc": sums})
        _store(of_stimuli, arrays["%dx"], block, t)
        return arrays["%dc"], arrays["%g"], following

    g = _load(of_after, block)
    zero = _carried(lax.full_like(g[0], 0), g[0])
    zeros = dict.fromkeys(range(0 if of_constants is None else of_constants.shape[-2]), zero)
    sums, g, _ = lax.fori_loop(0, steps, step, (zeros, g, at(steps - 1)))
    _store(of_constants, sums, block)
    _store(of_states, g, block)


def _run(
    kernel: Kernel, given: Sequence[jax.Array], shapes: Sequence[jax.ShapeDtypeStruct], interpret: bool = False
) -> list[jax.Array]:
    """Run a kernel, on a GPU or, for tests, in Pallas's interpreter."""
    blocks, steps, *_ = given[3].shape
    if kernel.active is None:
        loop = partial(_forward, step_body(kernel.loop, kernel.shared), steps)
    else:
        loop = partial(_adjoint, adjoint_body(kernel.loop, kernel.shared, kernel.active), steps)
    # Rows are not wanted where there are not as many as steps.
    wanted = [shape.size > 0 and (len(shape.shape) == 3 or shape.shape[1] == steps) for shape in shapes]

    def block(number: Any, *refs: Any) -> None:
        each = iter(refs)
        read = [next(each) if array.size else None for array in given]
        loop(number, read, [next(each) if one else None for one in wanted])

    results = iter(
        (_interpreted if interpret else _compiled)(
            block,
            blocks,
            [shape for shape, one in zip(shapes, wanted) if one],
            [array for array in given if array.size],
        )
    )
    return [next(results) if one else jax.numpy.zeros(shape.shape, shape.dtype) for shape, one in zip(shapes, wanted)]


def _compiled(block: Callable[..., None], blocks: int, shapes: Sequence[Any], given: Sequence[Any]) -> Sequence[Any]:
    # No lane reads what another writes, so there is nothing to wait for. All vectors are alike, so no layouts need be
    # found; a search takes half a minute for 1,000 operations.
    params = mosaic.CompilerParams(unsafe_no_auto_barriers=True, lowering_semantics=mosaic.LoweringSemantics.Lane)

    def numbered(*refs: Any) -> None:
        block(lax.axis_index("block"), *refs)

    kernel = mosaic.kernel(numbered, out_type=shapes, grid=(blocks,), grid_names=("block",), compiler_params=params)
    return kernel(*given)


def _interpreted(block: Callable[..., None], blocks: int, shapes: Sequence[Any], given: Sequence[Any]) -> Sequence[Any]:
    def numbered(*refs: Any) -> None:
        block(pallas.program_id(0), *refs)

    return pallas.pallas_call(numbered, out_shape=shapes, grid=(blocks,), interpret=True)(*given)


for _primitive in (forward_p, adjoint_p):
    _lowered = mlir.lower_fun(on_vectors(_run, lambda _: _LANES), multiple_results=True)
    mlir.register_lowering(_primitive, _lowered, platform="cuda")
