import jax
import numpy as np

from metarule.tasks.base import rounds


def test_each_round_has_every_class_in_random_order():
    order = np.asarray(rounds(jax.random.key(0), 4, 50))
    assert order.shape == (50, 4)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(4), (50, 1)))
    assert len({tuple(one) for one in order}) > 10
