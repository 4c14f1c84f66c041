"""Scalar form of a jaxpr: one value for each entry of each array.

An array is a NumPy array of objects, whose entries are values of a back end or Python numbers. Elementwise primitives
work entry by entry, primitives that only move entries move objects, and products and sums are unrolled. Whatever
depends on constants alone is computed here.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

__all__ = ["CALLS", "COMPARISONS", "ELEMENTWISE", "UNARY", "UNCHANGED", "Entries", "Operations", "Unsupported", "adder"]
__all__ += ["apply", "cost", "count", "evaluate", "inner", "is_constant", "is_count", "kinds_of", "multiplier"]

Entries = np.ndarray

# Names are those of JAX's primitives.
UNARY = ("abs", "exp", "exp2", "expm1", "log", "log1p", "logistic", "rsqrt", "sign", "sin", "cos", "sqrt", "tanh")
COMPARISONS = ("eq", "ge", "gt", "le", "lt", "ne")
CALLS = ["checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"]
CALLS += ["jit", "pjit", "remat", "remat2"]
UNCHANGED = ("copy", "copy_p", "optimization_barrier", "pcast", "pvary", "reduce_precision", "stop_gradient")


class Unsupported(Exception):
    """A primitive, or a use of one, that has no scalar form."""


@runtime_checkable
class Operations(Protocol):
    """Operations of a back end on its values; a Python number stands for itself as an operand of any."""

    def unary(self, name: str, x: Any) -> Any:
        """Apply one of `UNARY`."""

    def binary(self, name: str, x: Any, y: Any) -> Any:
        """Apply add, sub, mul, div, pow, max, min, a comparison, or and, or, xor of truth values."""

    def select(self, which: Any, true: Any, false: Any) -> Any:
        """Choose one of two numbers by a truth value."""


def is_constant(value: Any) -> bool:
    """True if a value is a Python or NumPy number."""
    return isinstance(value, bool | int | float | np.generic)


def _is_truth(kind: Any) -> bool:
    return jax.dtypes.issubdtype(kind, np.bool_)


def _is_float(kind: Any) -> bool:
    return jax.dtypes.issubdtype(kind, np.floating)


def is_count(kind: Any) -> bool:
    """True for signed integers. A float stands for one, which is exact for numbers of steps."""
    return jax.dtypes.issubdtype(kind, np.signedinteger)


def count(closed: ClosedJaxpr) -> int:
    """Operations of a scalar program, about.

    Raises:
        Unsupported: naming a primitive that has no scalar form, or numbers that are not of one precision.
    """
    return _count(closed.jaxpr, [False] * len(closed.jaxpr.invars))[0]


def _count(jaxpr: Jaxpr, constant: Sequence[bool]) -> tuple[int, list[bool]]:
    """Operations, and for each output true if it is a constant."""
    known = dict(zip(jaxpr.invars, constant, strict=True)) | dict.fromkeys(jaxpr.constvars, True)
    total = 0
    for equation in jaxpr.eqns:
        given = [isinstance(atom, Literal) or known[atom] for atom in equation.invars]
        operations, results = cost(equation, given)
        known |= zip(equation.outvars, results, strict=True)
        total += operations
    return total, [isinstance(atom, Literal) or known[atom] for atom in jaxpr.outvars]


def cost(equation: JaxprEqn, constant: Sequence[bool]) -> tuple[int, list[bool]]:
    """Operations of an equation, and for each output true if it is a constant."""
    name, kinds = equation.primitive.name, kinds_of(equation.invars)
    sizes = [math.prod(kind.shape) for kind in kinds_of(equation.outvars)]
    if name in CALLS:
        return _count(inner(equation).jaxpr, constant)
    if any(jax.dtypes.issubdtype(kind.dtype, jax.dtypes.extended) for kind in kinds_of(equation.outvars)):
        raise Unsupported(f"the primitive {name}")  # keys have no entries
    if all(constant):
        return 0, [True] * len(sizes)
    read = {kind.dtype for kind, one in zip(kinds, constant) if not one}
    involved = {*read, *(kind.dtype for kind in kinds_of(equation.outvars))}
    floats = {kind for kind in involved if _is_float(kind)}
    counts = {kind for kind in involved if is_count(kind)}
    if not all(kind in floats or kind in counts or _is_truth(kind) for kind in involved):
        raise Unsupported(f"the primitive {name} of {' and '.join(sorted(map(str, involved)))}")
    if counts and name not in _OF_COUNTS:
        raise Unsupported(f"the primitive {name} of integers")
    if name == "select_n" and is_count(kinds[0].dtype):
        raise Unsupported("the primitive select_n by integers")
    if len(floats) > 1 or (name == "reduce_precision" and not _is_whole(equation)):
        raise Unsupported(f"the primitive {name} between precisions")
    if name == "convert_element_type":
        _check_conversion(kinds[0].dtype, equation.params["new_dtype"])
    if any(map(_is_truth, read)) and name not in _OF_TRUTHS:
        raise Unsupported(f"the primitive {name} of truth values")
    if name in _MOVES or name in _LOOKED_UP or name in UNCHANGED:
        return 0, [False] * len(sizes)
    if name == "dot_general":
        (summed, _), _ = equation.params["dimension_numbers"]
        return sizes[0] * math.prod(kinds[0].shape[axis] for axis in summed), [False]
    if name in _UNROLLED:
        return math.prod(kinds[0].shape), [False]
    if name in ELEMENTWISE:
        return sizes[0], [False]
    raise Unsupported(f"the primitive {name}")


def kinds_of(atoms: Sequence[Any]) -> list[Any]:
    """Types of variables and literals of a jaxpr."""
    return [atom.aval for atom in atoms]


def _is_whole(equation: JaxprEqn) -> bool:
    """True if reducing the precision keeps every digit, as where it is a barrier to optimisations."""
    return bool(jax.numpy.finfo(kinds_of(equation.outvars)[0].dtype).nmant <= equation.params["mantissa_bits"])


def inner(equation: JaxprEqn) -> ClosedJaxpr:
    """Jaxpr of a call."""
    called = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    return called if isinstance(called, ClosedJaxpr) else ClosedJaxpr(called, ())


def evaluate(closed: ClosedJaxpr, arguments: Sequence[Entries], operations: Operations) -> list[Entries]:
    """Evaluate a jaxpr on arrays of entries.

    Args:
        closed: the jaxpr; its constants are arrays of numbers.
        arguments: one array of objects for each input.
        operations: the back end.

    Returns:
        One array of objects for each output.

    Raises:
        Unsupported: naming the primitive.
    """
    constants = [np.asarray(constant).astype(object) for constant in closed.consts]
    return _evaluate(closed.jaxpr, constants, arguments, operations)


def _evaluate(jaxpr: Jaxpr, constants: Sequence[Entries], arguments: Sequence[Entries], ops: Operations) -> list[Any]:
    values: dict[Var, Entries] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))

    def read(atom: Any) -> Entries:
        return np.asarray(atom.val).astype(object) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = apply(equation, [read(atom) for atom in equation.invars], ops)
        values |= zip(equation.outvars, (np.asarray(result, object) for result in results), strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def apply(equation: JaxprEqn, inputs: list[Entries], ops: Operations) -> list[Entries]:
    """Results of one equation."""
    name = equation.primitive.name
    if name in CALLS:
        called = inner(equation)
        return _evaluate(called.jaxpr, [np.asarray(c).astype(object) for c in called.consts], inputs, ops)
    if name in _MOVES:
        result = _MOVES[name](*inputs, **equation.params)
        return [np.asarray(part, object) for part in result] if isinstance(result, list) else [result]
    if name in UNCHANGED:
        return inputs
    if all(is_constant(entry) for array in inputs for entry in array.flat):
        return _fold(equation, inputs)
    if name in _ELEMENTWISE:
        return [_each(_ELEMENTWISE[name](ops), *inputs)]
    if name in _UNROLLED:
        return [_UNROLLED[name](ops, *inputs, **equation.params)]
    if name == "integer_pow":
        return [_each(_integer_pow(ops, equation.params["y"]), *inputs)]
    if name in UNARY:
        return [_each(lambda x: ops.unary(name, x), *inputs)]
    if name == "convert_element_type":
        return [_converted(equation, inputs[0], ops)]
    if name in _LOOKED_UP:
        return [_LOOKED_UP[name](ops, *inputs, **equation.params)]
    raise Unsupported(f"the primitive {name}")


@contextmanager
def _computed_now() -> Iterator[None]:
    """Compute at once, on one device, whatever is being traced or compiled."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())), jax.ensure_compile_time_eval():
        yield


def _fold(equation: JaxprEqn, inputs: list[Entries]) -> list[Entries]:
    """Compute an equation of constants; NumPy does what it does alike, such as indices, and needs no compiler."""
    given = [array.astype(kind.dtype) for array, kind in zip(inputs, kinds_of(equation.invars), strict=True)]
    if equation.primitive.name in _FOLDED:
        return [np.asarray(_FOLDED[equation.primitive.name](*given)).astype(object)]
    with _computed_now():
        results = equation.primitive.bind(*map(jax.numpy.asarray, given), **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    return [np.asarray(result).astype(object) for result in results]


_FOLDED: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "eq": np.equal,
    "ge": np.greater_equal,
    "lt": np.less,
    "mul": np.multiply,
    "select_n": lambda which, *cases: np.choose(which.astype(int), cases),
    "sub": np.subtract,
}


def _each(function: Callable[..., Any], *arrays: Entries) -> Entries:
    """Apply a function entry by entry, with the scalars of an equation broadcast."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    rows = [np.broadcast_to(array, shape).ravel() for array in arrays]
    result = np.empty(len(rows[0]), object)
    result[:] = [function(*entries) for entries in zip(*rows, strict=True)]
    return result.reshape(shape)


# --- Elementwise primitives


def adder(ops: Operations) -> Callable[[Any, Any], Any]:
    """Sum of two values, if it is not one of them."""

    def add(x: Any, y: Any) -> Any:
        if is_constant(x) and is_constant(y):
            return x + y
        if is_constant(x) and x == 0:
            return y
        return x if is_constant(y) and y == 0 else ops.binary("add", x, y)

    return add


def _sub(ops: Operations) -> Callable[[Any, Any], Any]:
    def sub(x: Any, y: Any) -> Any:
        if is_constant(x) and is_constant(y):
            return x - y
        return x if is_constant(y) and y == 0 else ops.binary("sub", x, y)

    return sub


def multiplier(ops: Operations) -> Callable[[Any, Any], Any]:
    """Product of two values, if it is not one of them or zero."""

    def mul(x: Any, y: Any) -> Any:
        if is_constant(x) and is_constant(y):
            return x * y
        for one, other in ((x, y), (y, x)):
            # A derivative is padded with zeros; a product with one is no number where the other factor is infinite,
            # but then the state is infinite, too, and so is the loss or the gradient.
            if is_constant(one) and one in (0, 1):
                return other if one == 1 else 0.0
        return ops.binary("mul", x, y)

    return mul


def _integer_pow(ops: Operations, y: int) -> Callable[[Any], Any]:
    mul = multiplier(ops)

    def power(x: Any, exponent: int) -> Any:
        if exponent == 1:
            return x
        half = power(x, exponent // 2)
        square = mul(half, half)
        return mul(square, x) if exponent % 2 else square

    if y < 0:
        return lambda x: ops.binary("div", 1.0, power(x, -y))
    return lambda x: power(x, y) if y else 1.0


def _binary(name: str) -> Callable[[Operations], Callable[[Any, Any], Any]]:
    return lambda ops: lambda x, y: ops.binary(name, x, y)


def _clamp(ops: Operations) -> Callable[[Any, Any, Any], Any]:
    return lambda low, x, high: ops.binary("min", ops.binary("max", x, low), high)


def _select(ops: Operations) -> Callable[..., Any]:
    def select(which: Any, false: Any, true: Any) -> Any:
        if is_constant(which):
            return true if which else false
        return true if true is false else ops.select(which, true, false)

    return select


def _square(ops: Operations) -> Callable[[Any], Any]:
    mul = multiplier(ops)
    return lambda x: mul(x, x)


def _one_minus_square(ops: Operations) -> Callable[[Any], Any]:
    """1 − x² without loss of digits near ±1; JAX has this primitive from 0.12 on."""
    add, mul, sub = adder(ops), multiplier(ops), _sub(ops)
    return lambda x: mul(sub(1.0, x), add(1.0, x))


def _is_finite(ops: Operations) -> Callable[[Any], Any]:
    return lambda x: ops.binary("lt", ops.unary("abs", x), math.inf)


def _neg(ops: Operations) -> Callable[[Any], Any]:
    return lambda x: ops.binary("sub", -0.0, x)


def _not(ops: Operations) -> Callable[[Any], Any]:
    return lambda x: ops.binary("xor", x, True)


_ELEMENTWISE: dict[str, Callable[[Operations], Callable[..., Any]]] = {
    "add": adder,
    "add_any": adder,
    "clamp": _clamp,
    "is_finite": _is_finite,
    "mul": multiplier,
    "neg": _neg,
    "not": _not,
    "one_minus_square": _one_minus_square,
    "select_n": _select,
    "square": _square,
    "sub": _sub,
}
_ELEMENTWISE |= {name: _binary(name) for name in ("div", "pow", "max", "min", "and", "or", "xor", *COMPARISONS)}


def _check_conversion(given: Any, wanted: Any) -> None:
    """Refuse conversions that need rounding; a float stands for a count already."""
    if given != wanted and not (_is_float(wanted) or (_is_truth(wanted) and _is_float(given))):
        raise Unsupported(f"a conversion from {given} to {wanted}")


ELEMENTWISE = (*_ELEMENTWISE, *UNARY, "convert_element_type", "integer_pow")


def _converted(equation: JaxprEqn, x: Entries, ops: Operations) -> Entries:
    """Convert truth values to numbers and back; numbers keep their precision."""
    given, wanted = kinds_of(equation.invars)[0].dtype, equation.params["new_dtype"]
    _check_conversion(given, wanted)
    if given == wanted or not (_is_truth(given) or _is_truth(wanted)):
        return x
    return _each(lambda entry: _select(ops)(entry, 0.0, 1.0) if _is_truth(given) else ops.binary("ne", entry, 0.0), x)


# --- Primitives that only move entries


def _broadcast(x: Entries, shape: Any, broadcast_dimensions: Any, **_: Any) -> Entries:
    expanded = [1] * len(shape)
    for size, axis in zip(x.shape, broadcast_dimensions, strict=True):
        expanded[axis] = size
    return np.broadcast_to(x.reshape(expanded), shape)


def _pad(x: Entries, filling: Entries, padding_config: Sequence[Any], **_: Any) -> Entries:
    sizes = [size + max(size - 1, 0) * inner for size, (_, _, inner) in zip(x.shape, padding_config)]
    # Negative padding cuts entries off afterwards.
    edges = [(max(low, 0), max(high, 0)) for low, high, _ in padding_config]
    result = np.full([low + size + high for size, (low, high) in zip(sizes, edges)], filling[()], object)
    steps = [inner + 1 for _, _, inner in padding_config]
    result[tuple(slice(low, low + size, step) for size, (low, _), step in zip(sizes, edges, steps))] = x
    cuts = zip(result.shape, padding_config)
    return result[tuple(slice(max(-low, 0), size - max(-high, 0)) for size, (low, high, _) in cuts)]


def _slice(x: Entries, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Entries:
    steps = strides or (1,) * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


_MOVES: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda *xs, dimension, **_: np.concatenate(xs, dimension),
    "expand_dims": lambda x, dimensions, **_: np.expand_dims(x, dimensions),
    "pad": _pad,
    "reshape": lambda x, new_sizes, **_: x.reshape(new_sizes),
    "rev": lambda x, dimensions, **_: np.flip(x, dimensions),
    "slice": _slice,
    "split": lambda x, sizes, axis, **_: np.split(x, np.cumsum(sizes)[:-1], axis),
    "squeeze": lambda x, dimensions, **_: np.squeeze(x, dimensions),
    "stack": lambda *xs, axis, **_: np.stack(xs, axis),
    "tile": lambda x, reps, **_: np.tile(x, reps),
    "transpose": lambda x, permutation, **_: np.transpose(x, permutation),
    "unstack": lambda x, axis, **_: list(np.moveaxis(x, axis, 0)),
}

_OF_TRUTHS = {
    *_MOVES,
    *UNCHANGED,
    "and",
    "convert_element_type",
    "not",
    "or",
    "reduce_and",
    "reduce_or",
    "select_n",
    "xor",
}
_OF_COUNTS = {*_MOVES, *UNCHANGED, *COMPARISONS, "add", "convert_element_type", "max", "min", "pow", "select_n", "sub"}


# --- Primitives that look entries up at constant indices


def _dynamic_slice(ops: Operations, x: Entries, *starts: Entries, slice_sizes: Any, **_: Any) -> Entries:
    return x[_window(x.shape, starts, slice_sizes)]


def _dynamic_update_slice(ops: Operations, x: Entries, update: Entries, *starts: Entries, **_: Any) -> Entries:
    result = x.copy()
    result[_window(x.shape, starts, update.shape)] = update
    return result


def _window(shape: Sequence[int], starts: Sequence[Any], sizes: Sequence[int]) -> tuple[slice, ...]:
    """A window, moved into an array if it is outside."""
    inside = (min(max(int(start[()]), 0), most - size) for start, most, size in zip(starts, shape, sizes))
    return tuple(slice(start, start + size) for start, size in zip(inside, sizes))


def _gather(
    ops: Operations, x: Entries, indices: Entries, dimension_numbers: Any, slice_sizes: Any, mode: Any, **params: Any
) -> Entries:
    names = dimension_numbers
    batching = names.operand_batching_dims, names.start_indices_batching_dims
    windows = _windows(x.shape, indices, slice_sizes, names.start_index_map, batching, _clips(mode))
    windows = windows.reshape([*indices.shape[:-1], *_without(slice_sizes, names.collapsed_slice_dims, batching[0])])
    places = np.moveaxis(windows, range(indices.ndim - 1, windows.ndim), names.offset_dims)
    filling = math.nan if params["fill_value"] is None else params["fill_value"]
    return np.asarray(np.append(x.ravel(), filling)[places], object)


def _scatter(combine: Callable[[Operations], Callable[[Any, Any], Any]]) -> Callable[..., Entries]:
    def scatter(
        ops: Operations, x: Entries, indices: Entries, updates: Entries, dimension_numbers: Any, mode: Any, **_: Any
    ) -> Entries:
        names = dimension_numbers
        batching = names.operand_batching_dims, names.scatter_indices_batching_dims
        removed = {*names.inserted_window_dims, *batching[0]}
        window = iter(updates.shape[axis] for axis in names.update_window_dims)
        sizes = [1 if axis in removed else next(window) for axis in range(x.ndim)]
        index_map = names.scatter_dims_to_operand_dims
        windows = _windows(x.shape, indices, sizes, index_map, batching, _clips(mode))
        axes = range(indices.ndim - 1, updates.ndim)
        result = x.ravel().copy()
        for place, update in zip(windows.ravel(), np.moveaxis(updates, names.update_window_dims, axes).ravel()):
            if place < x.size:
                result[place] = combine(ops)(result[place], update)
        return result.reshape(x.shape)

    return scatter


def _windows(
    shape: Sequence[int], indices: Entries, sizes: Sequence[int], index_map: Any, batching: Any, clips: bool
) -> np.ndarray:
    """Numbers of the entries of each window; one more than there are for a window that is outside."""
    entries = np.arange(math.prod(shape)).reshape(shape)
    windows = np.full((*indices.shape[:-1], *sizes), entries.size)
    for place in np.ndindex(indices.shape[:-1]):
        start = np.zeros(len(shape), int)
        start[list(index_map)] = indices[place]
        start[list(batching[0])] = [place[axis] for axis in batching[1]]
        start = np.clip(start, 0, np.subtract(shape, sizes)) if clips else start
        if np.all(start >= 0) and np.all(start <= np.subtract(shape, sizes)):
            windows[place] = entries[tuple(map(slice, start, start + sizes))]
    return windows


def _clips(mode: Any) -> bool:
    return mode == jax.lax.GatherScatterMode.CLIP


def _without(sizes: Sequence[int], *removed: Sequence[int]) -> list[int]:
    return [size for axis, size in enumerate(sizes) if not any(axis in axes for axes in removed)]


_LOOKED_UP: dict[str, Callable[..., Entries]] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "scatter": _scatter(lambda ops: lambda before, update: update),
    "scatter-add": _scatter(adder),
}


# --- Sums and products of many entries


def _dot(ops: Operations, x: Entries, y: Entries, dimension_numbers: Any, **_: Any) -> Entries:
    (x_summed, y_summed), (x_batch, y_batch) = dimension_numbers
    x_free = [axis for axis in range(x.ndim) if axis not in (*x_summed, *x_batch)]
    y_free = [axis for axis in range(y.ndim) if axis not in (*y_summed, *y_batch)]
    shape = [x.shape[axis] for axis in (*x_batch, *x_free)] + [y.shape[axis] for axis in y_free]
    count = math.prod(x.shape[axis] for axis in x_batch)
    terms = math.prod(x.shape[axis] for axis in x_summed)
    left = np.transpose(x, (*x_batch, *x_free, *x_summed)).reshape(count, -1, terms)
    right = np.transpose(y, (*y_batch, *y_free, *y_summed)).reshape(count, -1, terms)
    add, mul = adder(ops), multiplier(ops)
    result = np.empty((count, left.shape[1], right.shape[1]), object)
    for place in np.ndindex(result.shape):
        batch, row, column = place
        result[place] = reduce(add, map(mul, left[batch, row], right[batch, column]), 0.0)
    return result.reshape(shape)


def _reduction(combine: Callable[[Operations], Callable[[Any, Any], Any]]) -> Callable[..., Entries]:
    def reduced(ops: Operations, x: Entries, axes: Any, **_: Any) -> Entries:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = np.transpose(x, (*kept, *axes)).reshape(math.prod(x.shape[axis] for axis in kept), -1)
        result = np.empty(len(rows), object)
        result[:] = [reduce(combine(ops), row) for row in rows]
        return result.reshape([x.shape[axis] for axis in kept])

    return reduced


def _cumsum(ops: Operations, x: Entries, axis: int, reverse: bool) -> Entries:
    result = np.flip(x, axis) if reverse else x.copy()
    rows = np.moveaxis(result, axis, 0)
    for number in range(1, len(rows)):
        rows[number : number + 1] = _each(adder(ops), rows[number - 1 : number], rows[number : number + 1])
    return np.flip(result, axis) if reverse else result


_UNROLLED: dict[str, Callable[..., Entries]] = {
    "cumsum": _cumsum,
    "dot_general": _dot,
    "reduce_and": _reduction(_binary("and")),
    "reduce_max": _reduction(_binary("max")),
    "reduce_min": _reduction(_binary("min")),
    "reduce_or": _reduction(_binary("or")),
    "reduce_prod": _reduction(multiplier),
    "reduce_sum": _reduction(adder),
}
