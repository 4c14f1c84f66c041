"""Operands and results of a loop as vectors, of which each lane is a lifetime."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarule.kernels.loops import Loop, in_parts, size

__all__ = ["Kernel", "on_vectors"]


class Kernel(NamedTuple):
    """A loop on vectors.

    Attributes:
        loop: the loop of one lifetime.
        shared: for each constant, true if all lifetimes have the same.
        active: for each operand of the loop, true if its cotangent is wanted; none for the loop itself.
    """

    loop: Loop
    shared: tuple[bool, ...]
    active: tuple[bool, ...] | None


class _Layout(NamedTuple):
    """Sizes of arrays of vectors: [blocks, numbers, lanes] or [blocks, steps, numbers, lanes]."""

    lifetimes: int
    lanes: int
    dtype: Any

    def shape(self, numbers: int, steps: int = 0) -> jax.ShapeDtypeStruct:
        """Shape of some numbers of all lifetimes, at each step if there are steps."""
        blocks = -(-self.lifetimes // self.lanes)
        return jax.ShapeDtypeStruct((blocks, *self._lead(steps), numbers, self.lanes), self.dtype)

    def pack(self, pairs: Sequence[tuple[jax.Array, bool]], steps: int = 0) -> jax.Array:
        """Lay out arrays, each with true if it has an axis of lifetimes."""
        rows = []
        for array, batched in pairs:
            row = array.astype(self.dtype)
            row = row if batched else jnp.broadcast_to(row, (self.lifetimes, *array.shape))
            lead = (self.lifetimes, *self._lead(steps))
            rows.append(row.reshape(*lead, row.size // prod(lead)))
        if not rows:
            return jnp.zeros(self.shape(0, steps).shape, self.dtype)
        whole = jnp.concatenate(rows, -1)
        blocks = -(-self.lifetimes // self.lanes)
        # The last lifetime fills the last block.
        missing = [(0, blocks * self.lanes - self.lifetimes), *([(0, 0)] * (whole.ndim - 1))]
        whole = jnp.pad(whole, missing, mode="edge") if missing[0][1] else whole
        return jnp.moveaxis(whole.reshape(blocks, self.lanes, *whole.shape[1:]), 1, -1)

    def unpack(self, vectors: jax.Array, kinds: Sequence[Any], steps: int = 0) -> list[jax.Array]:
        """Cut vectors into arrays of some types for each lifetime."""
        whole = jnp.moveaxis(vectors, -1, 1)
        whole = whole.reshape(whole.shape[0] * whole.shape[1], *whole.shape[2:])[: self.lifetimes]
        arrays, start = [], 0
        for kind in kinds:
            part = whole[..., start : start + prod(kind.shape)]
            arrays.append(part.reshape(self.lifetimes, *self._lead(steps), *kind.shape).astype(kind.dtype))
            start += prod(kind.shape)
        return arrays

    @staticmethod
    def _lead(steps: int) -> tuple[int, ...]:
        return (steps,) if steps else ()


def on_vectors(run: Callable[..., Sequence[jax.Array]], lanes_of: Callable[[int], int]) -> Callable[..., list[Any]]:
    """Build what both operations compute from a back end.

    Args:
        run: from a kernel, its operands and the shapes of its results to the results. The first operand has the
            constants that all lifetimes share; the others are arrays of vectors.
        lanes_of: number of lanes, from the bits of a number.
    """

    def called(
        *operands: Any, loop: Loop, length: int, batched: Sequence[bool], stored: bool = False, active: Any = None
    ) -> list[Any]:
        kinds = in_parts(loop.step.in_avals, loop.constants, loop.states)
        states, observables = in_parts(loop.step.out_avals, loop.states)
        pairs = list(zip(operands, batched, strict=True))
        constants, before, stimuli, rest = in_parts(pairs, *map(len, kinds))
        dtype = loop.precision
        lifetimes = next((x.shape[0] for x, one in pairs if one), 1)
        layout = _Layout(lifetimes, lanes_of(dtype.itemsize * 8), dtype)
        kernel = Kernel(loop, tuple(not one for _, one in constants), active)
        given = [
            jnp.concatenate([jnp.zeros(0, dtype), *(x.reshape(-1).astype(dtype) for x, one in constants if not one)]),
            layout.pack([pair for pair in constants if pair[1]]),
        ]
        if active is None:
            given += [layout.pack(before), layout.pack(stimuli, length)]
            row = jax.core.ShapedArray((size(states),), dtype)
            results = [(states, 0), (observables, length), ([row] if stored else [], length)]
            shapes = [
                layout.shape(size(states)),
                layout.shape(size(observables), length),
                layout.shape(size(states), length if stored else 2),
            ]
        else:
            after, along = in_parts(rest[1:], loop.states)
            given += [layout.pack(rest[:1], length), layout.pack(stimuli, length)]
            given += [layout.pack(after), layout.pack(along, length)]
            flags = in_parts(active, loop.constants, loop.states)
            moving = [[kind for kind, one in zip(*pair) if one] for pair in zip(kinds, flags)]
            results = list(zip(moving, (0, 0, length)))
            shapes = [layout.shape(size(kinds), steps) for kinds, steps in results]
        vectors = run(kernel, given, shapes)
        arrays = [x for one, wanted in zip(vectors, results) for x in layout.unpack(one, *wanted)]
        return arrays if any(batched) else [array[0] for array in arrays]

    return called
