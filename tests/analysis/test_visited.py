"""Samples of what synapses see in a closed loop."""

import closed
import jax
import jax.numpy as jnp
import numpy as np

from metarule.analysis.visited import visited

KEY = jax.random.key(0)
THETA = jnp.array([0.5, 0.2])


def test_synapses_see_the_rewards_of_a_closed_loop():
    pool = closed.LEARNER.tasks.split(0).train
    (samples,) = visited(closed.LEARNER, THETA, pool, KEY, 8)
    seen = samples.variables
    assert samples.lifetimes == 8
    assert len(samples.change) == 8 * closed.STEPS * 3
    assert len(np.unique(seen.neuromodulator)) > 4
    expected = seen.neuromodulator * (0.5 * seen.modulator + 0.2)
    np.testing.assert_allclose(samples.change, expected, rtol=1e-5, atol=1e-7)
