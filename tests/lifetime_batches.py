"""Batches of small lifetimes, and the θ-gradient with all weights stored, which other methods have to reproduce."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Remat, Reverse
from metarule.estimators import segments

KEY = jax.random.key(0)
LENGTH, LIFETIMES = 12, 3
SEVEN, SMALL = Polynomial(terms=("seven",)), Feedforward(hidden=(3,))


def lifetime(rule=SEVEN, circuit=SMALL, **inner_loop):
    loop = InnerLoop(**{"steps": LENGTH} | inner_loop)
    return Lifetime(rule=rule, circuit=circuit, tasks=Boolean(inputs=2), inner_loop=loop)


def initial_state(learner):
    """Shapes of the initial state."""
    task = lambda: learner.tasks.sample(KEY, learner.tasks.split(0).train, 0)
    return jax.eval_shape(lambda: learner.init(learner.init_theta(KEY), KEY, task())[1])


@partial(jax.jit, static_argnums=(0, 1))
def setting(learner, spread=0.05):
    """A θ at which every coefficient matters, and fresh networks with a task each."""
    flat, unravel = ravel_pytree(learner.init_theta(KEY))
    theta = unravel(flat + spread * jax.random.normal(jax.random.key(5), flat.shape))
    pool, keys = learner.tasks.split(0).train, jax.random.split(KEY, LIFETIMES)
    init = jax.vmap(lambda key, number: learner.init(theta, key, learner.tasks.sample(key, pool, number)))
    return theta, init(keys, jnp.arange(LIFETIMES))


def batch(gradient, theta, networks):
    return jax.jit(jax.vmap(gradient, (None, 0, 0)))(theta, *networks)


@partial(jax.jit, static_argnums=0)
def reference(learner, theta, networks):
    gradient = lambda *start: Reverse(scan=Remat()).from_start(learner, *start)
    return jax.vmap(gradient, (None, 0, 0))(theta, *networks)


def assert_equal(result, expected):
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12), result, expected)


def assert_exact_without_recomputing(gradient, learner, monkeypatch):
    theta, networks = setting(learner)
    expected = reference(learner, theta, networks)
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(expected.gradient)) > 1e-4
    # Where a segment is recomputed, nothing is tested.
    monkeypatch.setattr(segments, "run_segment", lambda learner, theta, context, state, *_: (state, jnp.zeros(())))
    assert_equal(gradient(learner, theta, networks), expected)


def with_clipped_weights():
    """A learner, θ and networks whose weights are clipped, and their θ-gradient."""
    learner = lifetime(weight_bound=0.7)
    theta, networks = setting(learner, spread=0.3)
    expected = reference(learner, theta, networks)
    unbounded = reference(lifetime(weight_bound=100.0), theta, networks)
    assert np.abs(np.asarray(expected.gradient) - np.asarray(unbounded.gradient)).max() > 1e-2, "no weight was clipped"
    return learner, theta, networks, expected
