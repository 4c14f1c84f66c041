import jax.numpy as jnp
import numpy as np

from metarule.tasks.pools import part, pick


def test_members_are_parted_in_their_order():
    split = part(jnp.array([4, 2, 7, 1]), jnp.array([False, True, False, True]))
    members = lambda pool: [int(pick(pool, index)) for index in range(int(pool.size))]
    assert (members(split.train), members(split.test)) == ([4, 7], [2, 1])


def test_numbers_beyond_the_pool_start_again():
    split = part(jnp.array([4, 2, 7, 1]), jnp.array([False, True, False, False]))
    np.testing.assert_array_equal([int(pick(split.train, index)) for index in range(7)], [4, 7, 1, 4, 7, 1, 4])
    assert int(pick(split.test, 12345)) == 2
