"""Pools of numbered members of a family, of rows (the same classes with other rows of the data), and of mixtures."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from metarule.types import Integer, PRNGKey, Split

__all__ = ["MemberPool", "MixturePool", "share_held_out", "split_members", "splits_of_families"]
__all__ += ["RowPool", "count_held_out", "draw_rows", "split_rows"]

# Size of the largest class whose rows are drawn by sorting random numbers.
_SORTED = 512


class MemberPool(NamedTuple):
    """Subset of the numbered members of a family, as data, so that one compiled program serves every split.

    Attributes:
        members: numbers of all members, those of the pool first [n].
        size: number of members of the pool, from 1 to n.
    """

    members: Int[Array, " n"]
    size: Int[Array, ""]

    def member(self, index: Integer) -> Integer:
        """Number of the member at an index, modulo the size of the pool."""
        return self.members[index % self.size]


def share_held_out(share: float, count: int) -> int:
    """Number of members that are held out: at least one, and not all."""
    return min(max(round(share * count), 1), count - 1)


def split_members(key: PRNGKey, count: int, share: float) -> Split:
    """Split the members of a family at random into two `MemberPool`s without a common member.

    Args:
        key: decides the split.
        count: number of members.
        share: share of the members in the test pool, at least one and not all.
    """
    members, held_out = jax.random.permutation(key, jnp.arange(count, dtype=jnp.int32)), share_held_out(share, count)
    train = MemberPool(jnp.roll(members, -held_out), jnp.asarray(count - held_out))
    return Split(train=train, test=MemberPool(members, jnp.asarray(held_out)))


class MixturePool(NamedTuple):
    """Pools of a mixture of families.

    Attributes:
        pools: a pool of each family.
    """

    pools: tuple[Any, ...]


def splits_of_families(split: Split) -> list[Split]:
    """Split of each family of a mixture."""
    return [Split(*pools) for pools in zip(split.train.pools, split.test.pools, strict=True)]


class RowPool(NamedTuple):
    """Rows of each class.

    Attributes:
        rows: of each class, padded to the largest class.
        sizes: of the classes.
    """

    rows: Int[Array, "classes largest"]
    sizes: Int[Array, " classes"]


def count_held_out(test_rows: float, sizes: np.ndarray) -> np.ndarray:
    """Count the held-out rows of each class: a number of rows, or a share below 1 of the size of the class."""
    counts = test_rows * sizes if test_rows < 1 else np.full(sizes.shape, test_rows)
    return np.rint(counts).astype(np.int32)


def split_rows(key: PRNGKey, rows: np.ndarray, sizes: np.ndarray, held_out: np.ndarray) -> Split:
    """Split the rows of each class at random into two `RowPool`s without a common row.

    Args:
        key: decides the split.
        rows: of each class, padded to the largest class.
        sizes: of the classes.
        held_out: number of rows of each class in the test pool.
    """
    is_row = np.arange(rows.shape[1]) < sizes[:, None]
    noise = jnp.where(is_row, jax.random.uniform(key, rows.shape), jnp.inf)
    order = jnp.take_along_axis(jnp.asarray(rows), jnp.argsort(noise, axis=1), axis=1)  # the padding is at the end
    left = sizes - held_out
    places = np.minimum(held_out[:, None] + np.arange(left.max()), sizes[:, None] - 1)
    train = RowPool(jnp.take_along_axis(order, jnp.asarray(places), axis=1), jnp.asarray(left))
    return Split(train=train, test=RowPool(order[:, : held_out.max()], jnp.asarray(held_out)))


def draw_rows(
    key: PRNGKey, rows: Int[Array, "classes largest"], size: Int[Array, ""], number: Int[Array, ""], count: int
) -> Int[Array, " count"]:
    """Draw distinct rows of a class in random order.

    Args:
        key: decides the draw.
        rows: of each class, padded to the largest class.
        size: of the class.
        number: of the class.
        count: number of rows to draw.
    """
    if rows.shape[1] > _SORTED:
        return rows[number, _distinct(key, size, count)]
    noise = jax.random.uniform(key, (rows.shape[1],))
    order = jnp.argsort(jnp.where(jnp.arange(rows.shape[1], dtype=size.dtype) < size, noise, jnp.inf))
    return rows[number][order[:count]]


def _distinct(key: PRNGKey, size: Int[Array, ""], count: int) -> Int[Array, " count"]:
    """Draw distinct numbers below a size by the first swaps of a Fisher–Yates shuffle; the size costs no time."""
    places = jnp.arange(count, dtype=size.dtype)
    partners = jax.random.randint(key, (count,), places, size, size.dtype)

    def content(moved: Int[Array, " count"], place: Int[Array, ""], step: Int[Array, ""]) -> Int[Array, ""]:
        """Number at a place before a swap: its own, or that which the last swap has moved there."""
        last = jnp.max(jnp.where((partners == place) & (places < step), places, -1))
        return jnp.where(last < 0, place, moved[last])

    def swap(moved: Int[Array, " count"], step: Int[Array, ""]) -> tuple[Int[Array, " count"], Int[Array, ""]]:
        return moved.at[step].set(content(moved, step, step)), content(moved, partners[step], step)

    return jax.lax.scan(swap, jnp.zeros_like(places), places)[1]
