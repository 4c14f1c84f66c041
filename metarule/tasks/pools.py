"""Finite pools of tasks, as data, so that one compiled program serves every split."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from metarule.types import Integer, Split

__all__ = ["Pool", "part", "pick"]


class Pool(NamedTuple):
    """Some of the members of a family.

    Attributes:
        members: every member [n], those of the pool first.
        size: how many are in the pool, from 1 to n.
    """

    members: Int[Array, " n"]
    size: Int[Array, ""]


def part(members: Int[Array, " n"], is_test: Bool[Array, " n"]) -> Split:
    """Part members into two disjoint pools, keeping their order.

    Args:
        members: in an order that may be random.
        is_test: which of them go to the test pool.

    Returns:
        The pools.
    """
    return Split(train=_pool(members, ~is_test), test=_pool(members, is_test))


def pick(pool: Pool, index: Integer) -> Int[Array, ""]:
    """Member number `index` of a pool; numbers beyond its size start again from the first."""
    return pool.members[index % pool.size]


def _pool(members: Int[Array, " n"], chosen: Bool[Array, " n"]) -> Pool:
    return Pool(members=members[jnp.argsort(~chosen, stable=True)], size=jnp.sum(chosen))
