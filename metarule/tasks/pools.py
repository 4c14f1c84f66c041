"""Finite pools of tasks, as data, so that one compiled program serves every split."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from metarule.types import Integer, Split

__all__ = ["Pool", "pool_member", "split_pool"]


class Pool(NamedTuple):
    """Subset of the members of a family.

    Attributes:
        members: all members, those of the pool first [n].
        size: number of members of the pool, from 1 to n.
    """

    members: Int[Array, " n"]
    size: Int[Array, ""]


def split_pool(members: Int[Array, " n"], is_test: Bool[Array, " n"]) -> Split:
    """Split members into two disjoint pools, keeping their order.

    Args:
        members: all members, in any order.
        is_test: true for members of the test pool.

    Returns:
        The pools.
    """
    return Split(train=_pool(members, ~is_test), test=_pool(members, is_test))


def pool_member(pool: Pool, index: Integer) -> Int[Array, ""]:
    """Member number `index` of a pool, modulo its size."""
    return pool.members[index % pool.size]


def _pool(members: Int[Array, " n"], chosen: Bool[Array, " n"]) -> Pool:
    return Pool(members=members[jnp.argsort(~chosen, stable=True)], size=jnp.sum(chosen))
