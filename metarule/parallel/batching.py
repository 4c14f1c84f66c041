"""Batches of lifetimes over devices and, on each device, over chunks whose weights fit into the cache."""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarule.parallel.devices import LIFETIMES
from metarule.types import Integer

__all__ = ["batch_lifetimes", "bytes_of", "default_chunk_size", "device_count"]

# True while a lifetime is traced: a batch within it stays on the device of the lifetime.
_WITHIN = ContextVar("within a lifetime", default=False)

# Bytes of the weights of a chunk, which stay in the private cache of a core.
_CHUNK_BYTES = 2**17
# Larger chunks save no time; beyond about 500 lifetimes of a tiny network, each lifetime takes twice as long.
_CHUNK_LIFETIMES = 256
# Lifetimes that a vector register holds, with as many of which a loop is run at once if their weights take no more.
_LANES, _LANES_BYTES = 16, 2**19


def batch_lifetimes(function: Callable[..., Any], chunk_size: int) -> Callable[..., Any]:
    """Batch lifetimes over devices and chunks: `vmap` over each chunk, and in `sharded_jit` a share for each device.

    Lifetimes are independent; their results are gathered once, after the last chunk. All chunks have the same size: the
    first lifetimes are computed a second time to fill the last chunk.

    Args:
        function: function of one lifetime; its arguments are mapped over their leading axis.
        chunk_size: most lifetimes in a chunk, as from `default_chunk_size`.

    Returns:
        The function of many lifetimes.
    """

    def batch(*arguments: Any) -> Any:
        devices, lifetimes = device_count(), jax.tree.leaves(arguments)[0].shape[0]
        chunks = -(-lifetimes // (devices * chunk_size))
        size = -(-lifetimes // (devices * chunks))
        share = chunks * size
        start = share * jax.lax.axis_index(LIFETIMES) if devices > 1 else 0
        numbers = (start + jnp.arange(share)) % lifetimes

        def one(number: Integer) -> Any:
            within = _WITHIN.set(True)
            try:
                return function(*jax.tree.map(lambda leaf: leaf[number], arguments))
            finally:
                _WITHIN.reset(within)

        if chunks > 1:
            results = jax.lax.map(jax.vmap(one), numbers.reshape(chunks, size))
            results = jax.tree.map(lambda leaf: leaf.reshape(share, *leaf.shape[2:]), results)
        else:
            results = jax.vmap(one)(numbers)
        return jax.tree.map(lambda leaf: leaf[:lifetimes], _gather(results) if devices > 1 else results)

    return batch


def device_count() -> int:
    """Number of devices over which `batch_lifetimes` distributes lifetimes in the traced code; 1 within a lifetime."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[LIFETIMES] if LIFETIMES in mesh.manual_axes and not _WITHIN.get() else 1


def _gather(results: Any) -> Any:
    """Results of all devices, gathered in one message for each type of numbers."""
    leaves, structure = jax.tree.flatten(results)
    for kind in dict.fromkeys(leaf.dtype for leaf in leaves):
        places = [place for place, leaf in enumerate(leaves) if leaf.dtype == kind]
        rows = [leaves[place].reshape(leaves[place].shape[0], prod(leaves[place].shape[1:])) for place in places]
        ends = np.cumsum([row.shape[1] for row in rows])[:-1].tolist()
        parts = jnp.split(jax.lax.all_gather(jnp.concatenate(rows, axis=1), LIFETIMES, tiled=True), ends, axis=1)
        for place, part in zip(places, parts, strict=True):
            leaves[place] = part.reshape(part.shape[0], *leaves[place].shape[1:])
    return jax.tree.unflatten(structure, leaves)


def default_chunk_size(state: Any) -> int:
    """Most lifetimes in a chunk, from the state of one or its shapes: on a CPU as many as fit into a core's cache."""
    if jax.default_backend() != "cpu":
        return sys.maxsize
    size = max(bytes_of(state), 1)
    fewest = _LANES if _LANES * size <= _LANES_BYTES else 1
    return min(max(_CHUNK_BYTES // size, fewest), _CHUNK_LIFETIMES)


def bytes_of(tree: Any) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
