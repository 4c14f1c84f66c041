"""Rolled form of a jaxpr: large arrays stay in memory, with loops over them.

As in the scalar form, elementwise primitives compute values, others only move them; here both are functions of an
index, which are computed within the loops of sums and results.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from metarule.kernels.nests import SHORT, Array, Index, Lazy, Nests, long_axes
from metarule.kernels.scalars import (
    CALLS,
    ELEMENTWISE,
    UNARY,
    UNCHANGED,
    Unsupported,
    adder,
    apply,
    inner,
    kinds_of,
    multiplier,
)

__all__ = ["evaluate"]

# Operations that are repeated for each entry along another axis, or in a later nest, rather than stored.
_CHEAP = 4
# Entries of the arrays of a primitive that has no rolled form, but a scalar one.
_MOST_ENTRIES = 64


def evaluate(jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Array], nests: Nests) -> list[Array]:
    """Evaluate a jaxpr on arrays of which large ones are in memory.

    Raises:
        Unsupported: naming a primitive that has no rolled form.
    """
    fixed = [np.asarray(constant).astype(object) for constant in constants]
    values: dict[Var, Array] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*fixed, *arguments], strict=True))

    def read(atom: Any) -> Array:
        return np.asarray(atom.val).astype(object) if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars], nests)
        values |= zip(equation.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: JaxprEqn, inputs: list[Array], nests: Nests) -> list[Array]:
    """Results of one equation."""
    name = equation.primitive.name
    if name in CALLS:
        called = inner(equation)
        return evaluate(called.jaxpr, called.consts, inputs, nests)
    constants = [x for x in inputs if isinstance(x, np.ndarray)]
    if len(constants) == len(inputs):
        return [np.asarray(result, object) for result in apply(equation, constants, nests.code)]
    if name in UNCHANGED:
        return inputs
    if name in _FORMS:
        result = _FORMS[name](nests, *inputs, **equation.params)
        return result if isinstance(result, list) else [result]
    if name in ELEMENTWISE:
        return [_elementwise(equation, inputs, nests)]
    return _scalar(equation, inputs, nests)


def _elementwise(equation: JaxprEqn, inputs: list[Array], nests: Nests) -> Array:
    shape = kinds_of(equation.outvars)[0].shape
    given = _nearby(nests, inputs, [not _is_repeated(x.shape, shape) for x in inputs])

    def at(index: Index) -> Any:
        entries = [nests.at(x, tuple(0 if n == 1 else one for n, one in zip(x.shape, index))) for x in given]
        return apply(equation, [np.asarray(entry, object) for entry in entries], nests.code)[0][()]

    result = Lazy(shape, at, _level(given))
    # Functions of neurons are read in several nests.
    is_costly = equation.primitive.name in UNARY and equation.primitive.name not in ("abs", "sign")
    return nests.settled(result) if is_costly and len(long_axes(shape)) < 2 else result


def _scalar(equation: JaxprEqn, inputs: list[Array], nests: Nests) -> list[Array]:
    """Results of any primitive on small arrays."""
    shapes = [kind.shape for kind in kinds_of(equation.outvars)]
    if sum(map(prod, [*shapes, *(x.shape for x in inputs)])) > _MOST_ENTRIES:
        raise Unsupported(f"the primitive {equation.primitive.name} of large arrays")
    given = [nests.settled(x) for x in inputs]

    def whole(_: Index) -> list[Any]:
        entries = [np.empty(x.shape, object) for x in given]
        for array, x in zip(entries, given):
            for index in np.ndindex(*x.shape):
                array[index] = nests.at(x, index)
        return [np.asarray(result, object) for result in apply(equation, entries, nests.code)]

    # Computed once in each nest.
    results = Lazy((), whole, _level(given))

    def single(number: int, index: Index) -> Lazy:
        return Lazy((1,), lambda _: nests.at(results, ())[number][index], results.level)

    return [
        nests.joined([single(number, index) for index in np.ndindex(*shape)], 0, [prod(shape)], shape)
        for number, shape in enumerate(shapes)
    ]


def _level(arrays: Sequence[Array]) -> int:
    return max((x.level for x in arrays if isinstance(x, Lazy)), default=0)


def _is_repeated(shape: Sequence[int], whole: Sequence[int]) -> bool:
    """True if an entry of an array is read again and again along a long axis of a result."""
    return prod(n for n in shape if n > SHORT) < prod(n for n in whole if n > SHORT)


def _nearby(nests: Nests, arrays: Sequence[Array], whole: Sequence[bool]) -> list[Array]:
    """Operands of which those are in memory that would be computed repeatedly or again in a later nest."""
    level = _level(arrays)
    return [
        x if isinstance(x, np.ndarray) or (one and x.level == level) else nests.settled(x, _CHEAP)
        for x, one in zip(arrays, whole, strict=True)
    ]


# --- Primitives that only move entries


def _moved(nests: Nests, x: Array, shape: Sequence[int], source: Callable[[Index], Index]) -> Lazy:
    """Array that reads another one at an index made of its own."""
    return Lazy(tuple(shape), lambda index: nests.at(x, source(index)), _level([x]))


def _broadcast(nests: Nests, x: Array, *_: Any, shape: Any, broadcast_dimensions: Any, **__: Any) -> Lazy:
    x = nests.settled(x, _CHEAP) if _is_repeated(x.shape, shape) else x
    axes = list(zip(x.shape, broadcast_dimensions))
    return _moved(nests, x, shape, lambda index: tuple(0 if size == 1 else index[axis] for size, axis in axes))


def _reshape(nests: Nests, x: Array, *_: Any, new_sizes: Any, **__: Any) -> Lazy:
    kept = [axis for axis, size in enumerate(new_sizes) if size > 1]
    places = [axis for axis, size in enumerate(x.shape) if size > 1]
    if [new_sizes[axis] for axis in kept] != [x.shape[axis] for axis in places]:
        return nests.joined([x], 0, x.shape, new_sizes)
    taken = dict(zip(places, kept))

    def source(index: Index) -> Index:
        return tuple(index[taken[axis]] if axis in taken else 0 for axis in range(len(x.shape)))

    return _moved(nests, x, new_sizes, source)


def _expand_dims(nests: Nests, x: Array, dimensions: Any, **_: Any) -> Lazy:
    sizes = iter(x.shape)
    count = len(x.shape) + len(dimensions)
    return _reshape(nests, x, new_sizes=[1 if axis in dimensions else next(sizes) for axis in range(count)])


def _squeeze(nests: Nests, x: Array, dimensions: Any, **_: Any) -> Lazy:
    return _reshape(nests, x, new_sizes=[size for axis, size in enumerate(x.shape) if axis not in dimensions])


def _transpose(nests: Nests, x: Array, permutation: Any, **_: Any) -> Lazy:
    places = [permutation.index(axis) for axis in range(len(permutation))]
    shape = [x.shape[axis] for axis in permutation]
    return _moved(nests, x, shape, lambda index: tuple(index[place] for place in places))


def _slice(nests: Nests, x: Array, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Lazy:
    if strides and any(stride != 1 for stride in strides):
        raise Unsupported("a slice of large arrays with strides")
    shape = [limit - start for start, limit in zip(start_indices, limit_indices)]
    return _moved(nests, x, shape, lambda index: tuple(map(_shifted, index, start_indices)))


def _shifted(one: Any, offset: int) -> Any:
    return (one[0], one[1] + offset) if isinstance(one, tuple) else one + offset


def _split(nests: Nests, x: Array, sizes: Any, axis: int, **_: Any) -> list[Array]:
    ends = list(accumulate(sizes))
    whole = tuple(x.shape)
    return [
        _slice(
            nests,
            x,
            [end - size if n == axis else 0 for n in range(len(whole))],
            [end if n == axis else one for n, one in enumerate(whole)],
            None,
        )
        for size, end in zip(sizes, ends)
    ]


def _unstack(nests: Nests, x: Array, axis: int, **_: Any) -> list[Array]:
    shape = [*x.shape[:axis], *x.shape[axis + 1 :]]

    def part(number: int) -> Lazy:
        return _moved(nests, x, shape, lambda index: (*index[:axis], number, *index[axis:]))

    return [part(number) for number in range(x.shape[axis])]


def _stack(nests: Nests, *xs: Array, axis: int, **_: Any) -> Lazy:
    return _concatenate(nests, *(_expand_dims(nests, x, [axis]) for x in xs), dimension=axis)


def _concatenate(nests: Nests, *xs: Array, dimension: int, **_: Any) -> Lazy:
    ends = list(accumulate(x.shape[dimension] for x in xs))
    shape = [*xs[0].shape[:dimension], ends[-1], *xs[0].shape[dimension + 1 :]]
    if ends[-1] > SHORT:
        return nests.joined(xs, dimension, shape, shape)

    def at(index: Index) -> Any:
        number = next(number for number, end in enumerate(ends) if index[dimension] < end)
        start = ends[number] - xs[number].shape[dimension]
        return nests.at(xs[number], (*index[:dimension], index[dimension] - start, *index[dimension + 1 :]))

    return Lazy(tuple(shape), at, _level(xs))


def _pad(nests: Nests, x: Array, filling: Array, padding_config: Any, **_: Any) -> Array:
    usual = all(low >= 0 and high >= 0 and not within for low, high, within in padding_config)
    if not usual or not isinstance(filling, np.ndarray):
        raise Unsupported("padding of large arrays that is not constant and at their ends")
    for axis, (low, high, _within) in enumerate(padding_config):
        ends = [
            np.broadcast_to(filling, [size if n == axis else one for n, one in enumerate(x.shape)])
            for size in (low, high)
        ]
        parts = [part for part in (ends[0], x, ends[1]) if part.shape[axis]]
        x = _concatenate(nests, *parts, dimension=axis) if len(parts) > 1 else x
    return x


# --- Sums


def _dot(nests: Nests, x: Array, y: Array, dimension_numbers: Any, **_: Any) -> Lazy:
    (x_summed, y_summed), (x_batch, y_batch) = dimension_numbers
    x_free = [axis for axis in range(len(x.shape)) if axis not in (*x_summed, *x_batch)]
    y_free = [axis for axis in range(len(y.shape)) if axis not in (*y_summed, *y_batch)]
    shape = [*(x.shape[axis] for axis in (*x_batch, *x_free)), *(y.shape[axis] for axis in y_free)]
    summed = [x.shape[axis] for axis in x_summed]
    spaces = [*shape, *summed]
    ends = range(len(shape), len(spaces))
    x_places = dict(zip((*x_batch, *x_free, *x_summed), (*range(len(x_batch) + len(x_free)), *ends)))
    y_places = dict(zip((*y_batch, *y_free), (*range(len(x_batch)), *range(len(x_batch) + len(x_free), len(shape)))))
    y_places |= dict(zip(y_summed, ends))
    x, y = _nearby(nests, [x, y], [not _is_repeated(one.shape, spaces) for one in (x, y)])

    def expression(index: Index) -> Any:
        left = nests.at(x, tuple(index[x_places[axis]] for axis in range(len(x.shape))))
        right = nests.at(y, tuple(index[y_places[axis]] for axis in range(len(y.shape))))
        return multiplier(nests.code)(left, right)

    return _summed(nests, shape, summed, expression, _level([x, y]))


def _reduce_sum(nests: Nests, x: Array, axes: Any, **_: Any) -> Lazy:
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    order = [*kept, *axes]
    shape, summed = [x.shape[axis] for axis in kept], [x.shape[axis] for axis in axes]

    def expression(index: Index) -> Any:
        return nests.at(x, tuple(index[order.index(axis)] for axis in range(len(order))))

    return _summed(nests, shape, summed, expression, _level([x]))


def _summed(
    nests: Nests, shape: Sequence[int], sizes: Sequence[int], expression: Callable[[Index], Any], level: int
) -> Lazy:
    """Sum an expression over its last axes, of which short ones are unrolled."""
    axes = long_axes(sizes)

    def unrolled(index: Index) -> Any:
        first, last = index[: len(shape)], dict(zip(axes, index[len(shape) :]))
        terms = (
            expression((*first, *(last.get(axis, one) for axis, one in enumerate(short))))
            for short in np.ndindex(*(1 if axis in axes else size for axis, size in enumerate(sizes)))
        )
        return reduce(adder(nests.code), terms, 0.0)

    if axes:
        return nests.summed(shape, [sizes[axis] for axis in axes], unrolled, level)
    return Lazy(tuple(shape), unrolled, level)


_FORMS: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dot_general": _dot,
    "expand_dims": _expand_dims,
    "pad": _pad,
    "reduce_sum": _reduce_sum,
    "reshape": _reshape,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
