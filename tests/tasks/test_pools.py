import jax.numpy as jnp
import numpy as np

from metarule.tasks.pools import pool_member, split_pool


def test_a_split_keeps_the_order_of_members():
    split = split_pool(jnp.array([4, 2, 7, 1]), jnp.array([False, True, False, True]))
    members = lambda pool: [int(pool_member(pool, index)) for index in range(int(pool.size))]
    assert (members(split.train), members(split.test)) == ([4, 7], [2, 1])


def test_indices_are_modulo_the_size():
    split = split_pool(jnp.array([4, 2, 7, 1]), jnp.array([False, True, False, False]))
    np.testing.assert_array_equal([int(pool_member(split.train, index)) for index in range(7)], [4, 7, 1, 4, 7, 1, 4])
    assert int(pool_member(split.test, 12345)) == 2
