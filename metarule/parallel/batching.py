"""Lifetimes side by side: spread over devices, and on each as many at once as a processor can well keep in mind."""

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

__all__ = ["batch_lifetimes", "default_chunk_size", "device_count"]

# Whether what is traced is a lifetime, on one device with all that is in it.
_WITHIN = ContextVar("within a lifetime", default=False)

# Weights of so many bytes are worked on together: what they need stays in the cache that a core has for itself.
_BLOCK_BYTES = 2**17
# More lives at a time save nothing, and beyond some five hundred one of a tiny network takes twice as long.
_BLOCK_LIVES = 256


def batch_lifetimes(form: Callable[..., Any], chunk_size: int) -> Callable[..., Any]:
    """`vmap`, some lifetimes at a time; in what runs `sharded_jit`, each device lives its share.

    Lifetimes know nothing of each other: devices tell each other of theirs once, when all are over. Blocks are of one
    size; where lifetimes do not fill them, the first are lived a second time, for nothing.

    Args:
        form: of one lifetime; its arguments are mapped over their leading axis.
        chunk_size: lives at a time on one device, at most; as from `default_chunk_size`.

    Returns:
        The function of many lifetimes.
    """

    def many(*given: Any) -> Any:
        devices = device_count()
        lifetimes = jax.tree.leaves(given)[0].shape[0]
        blocks = -(-lifetimes // (devices * chunk_size))
        block = -(-lifetimes // (devices * blocks))
        share = blocks * block
        start = share * jax.lax.axis_index(LIFETIMES) if devices > 1 else 0
        numbers = (start + jnp.arange(share)) % lifetimes

        def one(number: Integer) -> Any:
            within = _WITHIN.set(True)
            try:
                return form(*jax.tree.map(lambda leaf: leaf[number], given))
            finally:
                _WITHIN.reset(within)

        found = jax.lax.map(one, numbers, batch_size=block) if blocks > 1 else jax.vmap(one)(numbers)
        if devices > 1:
            found = _gathered(found)
        return jax.tree.map(lambda leaf: leaf[:lifetimes], found)

    return many


def device_count() -> int:
    """Devices that `batch_lifetimes` spreads lives over where this is traced: one alone within a lifetime."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[LIFETIMES] if LIFETIMES in mesh.manual_axes and not _WITHIN.get() else 1


def _gathered(found: Any) -> Any:
    """What all devices have found, from what each has: numbers of one type in one message."""
    leaves, structure = jax.tree.flatten(found)
    for kind in dict.fromkeys(leaf.dtype for leaf in leaves):
        places = [place for place, leaf in enumerate(leaves) if leaf.dtype == kind]
        rows = [leaves[place].reshape(leaves[place].shape[0], prod(leaves[place].shape[1:])) for place in places]
        ends = np.cumsum([row.shape[1] for row in rows])[:-1].tolist()
        parts = jnp.split(jax.lax.all_gather(jnp.concatenate(rows, axis=1), LIFETIMES, tiled=True), ends, axis=1)
        for place, part in zip(places, parts, strict=True):
            leaves[place] = part.reshape(part.shape[0], *leaves[place].shape[1:])
    return jax.tree.unflatten(structure, leaves)


def default_chunk_size(state: Any) -> int:
    """Lifetimes that are best lived at a time: on CPUs so many that their weights stay in a core's cache; all
    elsewhere.

    Args:
        carry: state of one lifetime, or its shapes.

    Returns:
        Their number, at most.
    """
    if jax.default_backend() != "cpu":
        return sys.maxsize
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return min(max(_BLOCK_BYTES // max(size, 1), 1), _BLOCK_LIVES)
