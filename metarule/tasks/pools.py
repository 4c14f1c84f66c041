"""Pools of rows: training and test tasks of the same classes, with different rows of the data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from metarule.types import PRNGKey, Split

__all__ = ["RowPool", "count_held_out", "split_rows"]


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
