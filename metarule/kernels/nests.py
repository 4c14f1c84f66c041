"""Loop nests over arrays that stay in memory.

An array is a function from an index to a value, or an array of constants. An index has integers and counters of loops;
axes of up to `SHORT` entries have integers only, as they are always unrolled. What has to be in memory, such as sums
and results, becomes an assignment. Assignments of one index space share a nest as far as their order permits.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from metarule.kernels.scalars import Entries, Unsupported, adder, is_constant
from metarule.kernels.vectors import Code

__all__ = ["SHORT", "Access", "Array", "Index", "Lazy", "Nests", "long_axes", "row_major"]

SHORT = 4
# Entries that a nest computes at once, so that sums do not wait for each other; sums that stay in registers meanwhile;
# and instructions of a body, about.
_MOST_UNROLLED, _MOST_SUMS, _MOST_INSTRUCTIONS = 8, 24, 2000
# Vectors of 64 bytes.
_MOST_ON_STACK = 2048

# Each is an integer, or a counter and an integer that is added to it.
Index = tuple[Any, ...]
Expression = Callable[[Index], Any]


class Lazy(NamedTuple):
    """An array whose entries are computed where they are read.

    Attributes:
        shape: of the array.
        at: value at an index.
        level: how many sums, each of which needs the one before, come first.
    """

    shape: tuple[int, ...]
    at: Expression
    level: int


Array = Entries | Lazy


class Access(NamedTuple):
    """Vectors of an array in memory.

    Attributes:
        pointer: the memory.
        start: number of the vector at index 0.
        strides: vectors from one index to the next of each axis.
        shared: true if there is one number for all lanes instead of a vector.
        truth: true if numbers stand for truth values.
    """

    pointer: str
    start: int
    strides: tuple[int, ...]
    shared: bool = False
    truth: bool = False


class _Assignment(NamedTuple):
    """Values to store at all indices of a space, or to add to what is there."""

    sizes: tuple[int, ...]
    value: Expression
    target: Access
    adds: bool
    reads: tuple[Access, ...]
    cost: int


class _Probe(NamedTuple):
    """What computing one entry takes: the value, its instructions, their number without addresses, what is read."""

    value: Any
    lines: tuple[str, ...]
    cost: int
    reads: dict[Any, Access]


def long_axes(shape: Sequence[int]) -> list[int]:
    """Axes that are not unrolled."""
    return [axis for axis, size in enumerate(shape) if size > SHORT]


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of an array whose last axis is contiguous."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


class Nests:
    """Nests that are written to the code of a function at the end.

    Attributes:
        code: of the function.
        allocations: instructions for memory, which come first.
        arguments: vectors of each memory that the caller provides, because threads have small stacks.
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self.allocations: list[str] = []
        self.arguments: dict[str, int] = {}
        self._memories, self._on_stack = 0, 0
        self._assignments: list[_Assignment] = []
        self._stored: dict[Any, Lazy] = {}
        self._values: dict[Any, Any] = {}
        self._reads: dict[Any, tuple[Access, dict[str, int]]] = {}

    # --- Arrays

    def at(self, array: Array, index: Index) -> Any:
        """Value of an array at an index."""
        if isinstance(array, np.ndarray):
            return self._constant(array, index)
        key = id(array), index
        if key not in self._values:
            # The array is kept, so that its identity stays its own.
            self._values[key] = array.at(index), array
        return self._values[key][0]

    def _constant(self, array: Entries, index: Index) -> Any:
        """Value of an array of constants."""
        if not any(isinstance(one, tuple) for one in index):
            return array[index]
        first, alike = array.flat[0], not any(array.strides)
        if alike or np.all(array == first):
            return first
        access = Access(self.code.constants(array.flat), 0, row_major(array.shape), True, _is_truth(first))
        return self.at(self.view(access, array.shape), index)

    def view(self, access: Access, shape: Sequence[int], level: int = 0) -> Lazy:
        """Array that is in memory."""

        def at(index: Index) -> Any:
            start, moving = _place(access, index)
            load = self.code.splat if access.shared else self.code.load
            value = load(access.pointer, start, tuple(moving.items()))
            value = self.code.binary("ne", value, 0.0) if access.truth else value
            self._reads[value] = access._replace(start=start), moving
            return value

        return Lazy(tuple(shape), at, level)

    def settled(self, array: Array, cheap: int = -1) -> Array:
        """Array in memory, unless it is constant or takes few operations at each entry."""
        if isinstance(array, np.ndarray):
            return array
        return self.summed(array.shape, (), partial(self.at, array), array.level, cheap)

    def summed(
        self, shape: Sequence[int], sizes: Sequence[int], expression: Expression, level: int, cheap: int = -1
    ) -> Lazy:
        """Array in memory of an expression, summed over its last axes, which are long."""
        axes = long_axes(shape)
        space = (*(shape[axis] for axis in axes), *sizes)
        parts = {
            short: self._part(space, len(axes), _at_short(expression, short, axes), level, cheap)
            for short in _short_indices(shape)
        }

        def at(index: Index) -> Any:
            short = tuple(0 if axis in axes else one for axis, one in enumerate(index))
            return self.at(parts[short], tuple(index[axis] for axis in axes))

        return Lazy(tuple(shape), at, max((x.level for x in parts.values() if isinstance(x, Lazy)), default=0))

    def store(self, target: Access, shape: Sequence[int], expression: Expression, adds: bool = False) -> bool:
        """Store an expression, or add it to what is there; true if it is of truth values, stored as numbers."""
        axes, truth = long_axes(shape), False
        for short in _short_indices(shape):
            start = target.start + sum(one * stride for one, stride in zip(short, target.strides))
            strides = tuple(target.strides[axis] for axis in axes)
            part, space = _at_short(expression, short, axes), tuple(shape[axis] for axis in axes)
            probe = self._probe(space, part)
            self._assign(target._replace(start=start, strides=strides), space, part, probe, adds)
            truth |= _is_truth(probe.value)
        return truth

    def joined(self, arrays: Sequence[Array], axis: int, shape: Sequence[int], seen: Sequence[int]) -> Lazy:
        """Arrays in one memory, one behind the other along an axis, seen as an array of some shape."""
        memory, start, truth = self.memory(shape), 0, False
        for array in arrays:
            target = memory._replace(start=start * memory.strides[axis])
            truth |= self.store(target, array.shape, partial(self.at, array))
            start += array.shape[axis]
        level = max((array.level + 1 for array in arrays if isinstance(array, Lazy)), default=0)
        return self.view(memory._replace(strides=row_major(seen), truth=truth), seen, level)

    def memory(self, shape: Sequence[int], zero: bool = False) -> Access:
        """Allocate memory."""
        name, count = f"%memory{self._memories}", prod(shape)
        self._memories += 1
        if self._on_stack + count <= _MOST_ON_STACK:
            self._on_stack += count
            self.allocations.append(f"{name} = alloca {self.code.vector}, i64 {count}, align 64")
        else:
            self.arguments[name] = count
        if zero:
            size = count * self.code.lanes * self.code.bits // 8
            self.allocations.append(f"call void @llvm.memset.p0.i64(ptr {name}, i8 0, i64 {size}, i1 false)")
        return Access(name, 0, row_major(shape))

    def _part(self, space: tuple[int, ...], kept: int, expression: Expression, level: int, cheap: int) -> Array:
        """Array of an expression over long axes, which is summed over all but the first ones."""
        probe = self._probe(space, expression)
        if kept == len(space):
            if is_constant(probe.value):
                return np.broadcast_to(np.asarray(probe.value, object), space)
            if probe.value in probe.reads:
                return self.view(probe.reads[probe.value], space, level)
            if probe.cost <= cheap:
                return Lazy(space, expression, level)
        key = space, kept, probe.value, probe.lines
        if key not in self._stored:
            memory = self.memory(space[:kept], kept < len(space))._replace(truth=_is_truth(probe.value))
            target = memory._replace(strides=memory.strides + (0,) * (len(space) - kept))
            self._assign(target, space, expression, probe, kept < len(space))
            self._stored[key] = self.view(memory, space[:kept], level + 1)
        return self._stored[key]

    def _probe(self, space: Sequence[int], expression: Expression) -> _Probe:
        """Compute one entry in code that is then thrown away."""
        kept = self.code, self._values, self._reads
        self.code, self._values, self._reads = Code(kept[0].lanes, kept[0].bits), {}, {}
        axes = [f"%a{axis}" for axis in range(len(space))]
        value = expression(tuple((axis, 0) for axis in axes))
        lines, found = self.code.lines, self._reads.items()
        self.code, self._values, self._reads = kept
        reads = {name: x._replace(strides=tuple(moving.get(axis, 0) for axis in axes)) for name, (x, moving) in found}
        return _Probe(value, tuple(lines), sum("i64" not in line and "load" not in line for line in lines), reads)

    def _assign(
        self, target: Access, space: tuple[int, ...], expression: Expression, probe: _Probe, adds: bool
    ) -> None:
        """Add an assignment, whose axes are ordered as they are in memory."""
        reads = [target, *probe.reads.values()]
        strides = max((access.strides for access in reads), key=np.count_nonzero)
        order = sorted(range(len(space)), key=lambda axis: (strides[axis] != 0, -strides[axis]))
        target, *reads = [x._replace(strides=tuple(x.strides[axis] for axis in order)) for x in reads]

        def value(index: Index) -> Any:
            value = expression(tuple(index[order.index(axis)] for axis in range(len(order))))
            return self.code.select(value, 1.0, 0.0) if _is_truth(value) else value

        sizes = tuple(space[axis] for axis in order)
        self._assignments.append(_Assignment(sizes, value, target, adds, tuple(reads), probe.cost))

    # --- Order

    def write(self, results: Set[str]) -> None:
        """Write all nests that are needed for what is stored to some pointers."""
        pending = self._needed(results)
        while pending:
            nest = _next(pending)
            self._nest(nest)
            pending = [one for one in pending if one not in nest]

    def _needed(self, results: Set[str]) -> list[_Assignment]:
        needed, wanted = list[_Assignment](), set(results)
        # What an assignment reads was assigned before it.
        for one in reversed(self._assignments):
            if one.target.pointer in wanted:
                needed.insert(0, one)
                wanted |= {access.pointer for access in one.reads}
        return needed

    # --- Loops

    def _nest(self, nest: Sequence[_Assignment]) -> None:
        """Write a nest, whose outer loop runs over groups of neighbours in memory."""
        *outer, last = nest[0].sizes or (1,)
        count = _unrolled(nest, last)
        whole = last // count * count
        if whole > count:
            with self.code.loop(whole, count) as counter:
                self._within(nest, outer, [(counter, place) for place in range(count)])
        else:
            self._within(nest, outer, range(whole))
        if whole < last:
            self._within(nest, outer, range(whole, last))

    def _within(
        self, nest: Sequence[_Assignment], sizes: Sequence[int], places: Sequence[Any], index: Index = ()
    ) -> None:
        """Write the loops over the other axes."""
        if sizes:
            with self.code.loop(sizes[0]) as counter:
                self._within(nest, sizes[1:], places, (*index, (counter, 0)))
        else:
            self._body(nest, [(*index, place)[: len(nest[0].sizes)] for place in places])

    def _body(self, nest: Sequence[_Assignment], indices: Sequence[Index]) -> None:
        """Write assignments at some indices. All values at one are read before any is stored."""
        self._values = {}
        sums: dict[int, Any] = {}
        add = adder(self.code)
        for index in indices:
            values = [one.value(index) for one in nest]
            for number, (one, value) in enumerate(zip(nest, values)):
                if not one.adds:
                    self.code.store(value, one.target.pointer, *_at(one.target, index))
                elif one.target.strides[-1:] == (0,):
                    sums[number] = add(sums.get(number, 0.0), value)
                else:
                    self._add(one.target, index, value)
        for number, value in sums.items():
            self._add(nest[number].target, indices[0], value)

    def _add(self, target: Access, index: Index, value: Any) -> None:
        start, moving = _at(target, index)
        before = self.code.load(target.pointer, start, moving)
        self.code.store(adder(self.code)(before, value), target.pointer, start, moving)


def _next(pending: Sequence[_Assignment]) -> list[_Assignment]:
    """Choose assignments for a nest: of the smallest space that has any, so that those of large ones gather."""
    unfinished = {one.target.pointer for one in pending if _is_own(one.target)}
    ready = [one for one in pending if not any(access.pointer in unfinished for access in one.reads)]
    for space in sorted({one.sizes for one in ready}, key=prod):
        nest = [one for one in ready if one.sizes == space]
        while late := [one for one in nest if any(_overwrites(one, other, nest) for other in pending)]:
            nest = [one for one in nest if one not in late]
        if nest:
            return nest
    raise Unsupported("results that overwrite each other's operands")


def _overwrites(one: _Assignment, other: _Assignment, nest: Sequence[_Assignment]) -> bool:
    """True if an assignment in a nest would change what another one has yet to read."""
    return not _is_own(one.target) and any(
        one.target.pointer == access.pointer
        and not (other in nest and one.target[:3] == access[:3])
        and bool(_touched(one.target, one.sizes) & _touched(access, other.sizes))
        for access in other.reads
    )


def _is_own(access: Access) -> bool:
    """True if memory is that of the function, which is written before it is read."""
    return access.pointer.startswith("%memory")


@lru_cache(maxsize=1024)
def _touched(access: Access, sizes: tuple[int, ...]) -> frozenset[int]:
    places = np.asarray([access.start])
    for size, stride in zip(sizes, access.strides, strict=True):
        places = np.add.outer(places, np.arange(size if stride else 1) * stride)
    return frozenset(places.ravel().tolist())


def _unrolled(nest: Sequence[_Assignment], size: int) -> int:
    """Neighbours that a nest computes at once."""
    sums = sum(one.adds and one.target.strides[-1:] != (0,) for one in nest)
    instructions = sum(one.cost for one in nest)
    most = min(_MOST_UNROLLED, size, _MOST_SUMS // max(sums, 1), _MOST_INSTRUCTIONS // max(instructions, 1))
    most = max(most, 1)
    return next((count for count in range(most, most // 2, -1) if size % count == 0), most)


def _short_indices(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All indices of short axes, with 0 for long ones."""
    return np.ndindex(*(1 if size > SHORT else size for size in shape))


def _at_short(expression: Expression, short: Index, axes: Sequence[int]) -> Expression:
    """Function of the index in long axes, and in any that follow."""

    def part(index: Index) -> Any:
        whole = list(short)
        for axis, one in zip(axes, index):
            whole[axis] = one
        return expression((*whole, *index[len(axes) :]))

    return part


def _place(access: Access, index: Index) -> tuple[int, dict[str, int]]:
    """Number of a vector at an index, as a constant and multiples of counters."""
    start, moving = access.start, dict[str, int]()
    for one, stride in zip(index, access.strides, strict=True):
        counter, offset = one if isinstance(one, tuple) else (None, one)
        start += offset * stride
        if counter and stride:
            moving[counter] = moving.get(counter, 0) + stride
    return start, moving


def _at(access: Access, index: Index) -> tuple[int, tuple[tuple[str, int], ...]]:
    start, moving = _place(access, index)
    return start, tuple(moving.items())


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or (isinstance(value, str) and value.startswith("%m"))
