from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.tasks import pools
from metarule.tasks.pools import RowPool, count_held_out, draw_rows, split_rows

SIZES = np.array([5, 9, 7], np.int32)
ROWS = np.stack([np.pad(np.arange(size) + 10 * number, (0, 9 - size)) for number, size in enumerate(SIZES)])


def by_class(pool):
    return [np.asarray(rows)[:size].tolist() for rows, size in zip(pool.rows, pool.sizes, strict=True)]


@pytest.mark.parametrize(
    ("test_rows", "counts"), [(0.3, [2, 3, 2]), (4.0, [4, 4, 4]), (0.5, [2, 4, 4]), (0.0, [0, 0, 0])]
)
def test_a_number_or_a_share_of_rows_is_held_out(test_rows, counts):
    assert count_held_out(test_rows, SIZES).tolist() == counts


def test_every_row_is_in_one_pool():
    held_out = count_held_out(0.3, SIZES)
    split = jax.jit(jax.vmap(lambda seed: split_rows(jax.random.key(seed), ROWS, SIZES, held_out)))(jnp.arange(20))
    tests = set()
    for seed in range(20):
        train, test = (by_class(RowPool(pool.rows[seed], pool.sizes[seed])) for pool in split)
        assert [len(rows) for rows in test] == held_out.tolist()
        for number, size in enumerate(SIZES):
            assert sorted(train[number] + test[number]) == list(range(10 * number, 10 * number + size))
        tests.add(frozenset(test[1]))
    assert len(tests) > 10


@pytest.mark.parametrize("limit", [512, 8])
def test_rows_of_a_class_are_drawn_evenly_and_once(limit, monkeypatch):
    monkeypatch.setattr(pools, "_SORTED", limit)
    draw = partial(draw_rows, rows=jnp.asarray(ROWS), size=jnp.int32(5), number=jnp.int32(0), count=4)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: draw(key)))(jax.random.split(jax.random.key(0), 6000)))
    orders, counts = np.unique(drawn, axis=0, return_counts=True)
    assert all(len(set(order)) == 4 for order in orders.tolist())
    assert (len(orders), drawn.min(), drawn.max()) == (120, 0, 4)
    # 119 degrees of freedom: 160 is the 99.3 % quantile.
    assert ((counts - 50) ** 2 / 50).sum() < 160
