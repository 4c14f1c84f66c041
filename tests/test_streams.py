import jax
import numpy as np

from metarule.streams import Purpose, run_key, stream


def test_purposes_draw_apart_and_seeds_too():
    drawn = {
        tuple(np.asarray(jax.random.key_data(stream(run_key(seed), purpose))))
        for seed in range(5)
        for purpose in Purpose
    }
    assert len(drawn) == 5 * len(Purpose)


def test_a_traced_seed_gives_the_same_key():
    traced = jax.jit(lambda seed: jax.random.key_data(stream(run_key(seed), Purpose.HELD_OUT)))(7)
    np.testing.assert_array_equal(traced, jax.random.key_data(stream(run_key(7), Purpose.HELD_OUT)))
