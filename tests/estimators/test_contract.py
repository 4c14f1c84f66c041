"""Contract of the estimators: exact ones agree, others agree in expectation."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.stats import norm

from metarule import (
    Auto,
    Boolean,
    Evolution,
    Feedforward,
    Forward,
    Gradient,
    InnerLoop,
    Lifetime,
    Persistent,
    Plain,
    Polynomial,
    Remat,
    Reverse,
    Segmented,
    Trace,
    Truncated,
)
from metarule.lifetime.unroll import lifetime_loss
from metarule.protocols import Estimator

KEY = jax.random.key(0)
LENGTH = 12
BASE = {
    "rule": Polynomial(terms=("seven", "oja")),
    "circuit": Feedforward(hidden=(3,)),
    "tasks": Boolean(inputs=2),
    "inner_loop": InnerLoop(steps=LENGTH),
}
TRACE = Polynomial(terms=("pre*modulator", "e*modulator", "weight"), traces={"e": Trace(of="pre*post")})
LIFETIMES = {
    "shared": Lifetime(**BASE),
    "per projection": Lifetime(**BASE | {"inner_loop": InnerLoop(steps=LENGTH, theta="per_projection")}),
    "dictionary": Lifetime(**BASE | {"rule": TRACE}),
}
# The statistics ask for many lifetimes, not for large ones.
SMALL = Lifetime(**BASE | {"rule": Polynomial(terms=("seven",)), "circuit": Feedforward(hidden=())})
EXACT = {
    "plain": Reverse(scan=Plain()),
    "segmented": Reverse(scan=Segmented(every=5)),
    "nested": Reverse(scan=Segmented(levels=2)),
    "forward": Forward(),
    "window of the whole lifetime": Truncated(window=LENGTH),
    "auto": Auto(),
}
OTHERS = {
    "forward": Forward(),
    "truncated": Truncated(window=5),
    "evolution": Evolution(pairs=2),
    "persistent": Persistent(window=4, pairs=2),
}


@partial(jax.jit, static_argnums=0)
def setting(learner):
    """A θ at which every coefficient matters, and a task."""
    flat, unravel = ravel_pytree(learner.init_theta(KEY))
    theta = unravel(flat + 0.05 * jax.random.normal(jax.random.key(5), flat.shape))
    return theta, learner.tasks.sample(KEY, learner.tasks.split(0).train, 3)


def estimated(estimator, learner, theta, task):
    def estimate(theta):
        return estimator.estimate(learner, theta, task, estimator.init(learner, theta, KEY), KEY)[0]

    return jax.jit(estimate)(theta)


@pytest.mark.parametrize("case", LIFETIMES)
def test_exact_estimators_agree_with_each_other_and_with_finite_differences(case, float64):
    learner = LIFETIMES[case]
    theta, task = setting(learner)
    expected = estimated(Reverse(scan=Remat()), learner, theta, task)
    # Scans and windows do not depend on the shape of θ: one shape for all of them, and the others for forward mode.
    for name, estimator in (EXACT if case == "dictionary" else {"forward": Forward()}).items():
        result = estimated(estimator, learner, theta, task)
        close = lambda one, two, name=name: np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-13, err_msg=name)
        jax.tree.map(close, result, expected)
    flat, unravel = ravel_pytree(theta)
    losses = jax.jit(jax.vmap(lambda flat: lifetime_loss(learner, unravel(flat), task, KEY)[0]))
    shifts = 1e-6 * np.eye(flat.size)
    numeric = (losses(flat[None] + shifts) - losses(flat[None] - shifts)) / 2e-6
    assert np.abs(numeric).max() > 1e-2
    np.testing.assert_allclose(ravel_pytree(expected.gradient)[0], numeric, rtol=1e-6, atol=1e-8)


def sum_of_windows(estimator, learner, theta, task, keys):
    """Sum of the estimates over the windows of one lifetime, with constant θ."""

    def window(state, key):
        estimate, state = estimator.estimate(learner, theta, task, state, key)
        return state, (estimate.loss, ravel_pytree(estimate.gradient)[0])

    estimates = jax.lax.scan(window, estimator.init(learner, theta, KEY), keys)[1]
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), estimates)


@pytest.mark.parametrize("window, windows", [(3, 4), (5, 3)], ids=["four", "with a remainder"])
def test_windows_sum_to_the_loss_of_the_lifetime(window, windows, float64):
    learner = LIFETIMES["dictionary"]
    theta, task = setting(learner)
    truncated, keys = Truncated(window=window, staggered=False), jax.random.split(KEY, windows)
    total = jax.jit(lambda: sum_of_windows(truncated, learner, theta, task, keys)[0])()
    np.testing.assert_allclose(total, jax.jit(lambda: lifetime_loss(learner, theta, task, keys[0])[0])(), rtol=1e-13)


def test_a_new_lifetime_begins_after_the_end_of_one():
    learner = LIFETIMES["shared"]
    theta, task = setting(learner)
    estimator = Truncated(window=6)
    run = jax.jit(lambda state, key: estimator.estimate(learner, theta, task, state, key))
    state = jax.jit(lambda: estimator.init(learner, theta, KEY)._replace(start=jnp.asarray(6)))()
    ts, keys = [], []
    for key in jax.random.split(KEY, 4):
        _, state = run(state, key)
        ts.append(int(state.t))
        keys.append(tuple(jax.random.key_data(state.context.key).tolist()))
    assert ts == [12, 6, 12, 6]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("estimator", [Truncated(window=4), Persistent(window=4, pairs=1)])
def test_staggered_lifetimes_begin_at_different_windows(estimator):
    learner = LIFETIMES["shared"]
    theta, _ = setting(learner)
    starts = jax.jit(jax.vmap(lambda key: estimator.init(learner, theta, key)))(jax.random.split(KEY, 32))
    starts = getattr(starts, "lifetime", starts).start
    assert set(starts.tolist()) == {0, 4, 8}


def differences(estimator, windows):
    """Mean over many lifetimes of the sum of estimates minus the exact gradient, its standard error, mean gradient."""
    theta, task = setting(SMALL)

    def one(key):
        keys = jax.random.split(key, windows)
        lifetime_key = keys[0] if isinstance(estimator, Truncated) else jax.random.split(keys[0])[0]
        exact = Reverse(scan=Plain()).estimate(SMALL, theta, task, (), lifetime_key)[0].gradient
        return sum_of_windows(estimator, SMALL, theta, task, keys)[1], exact

    estimates, exact = map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), 1024)))
    difference = estimates - exact
    return difference.mean(axis=0), difference.std(axis=0) / len(difference) ** 0.5, exact.mean(axis=0)


def test_gradients_by_perturbation_agree_with_reverse_in_expectation(float64):
    """Each comparison is wrong about a right estimator with one seed in ten thousand; the seed is fixed."""
    for estimator, windows in [
        (Evolution(sigma=1e-3, pairs=32), 1),
        (Persistent(sigma=1e-3, pairs=32, window=4, staggered=False), 3),
    ]:
        difference, error, exact = differences(estimator, windows)
        assert error.max() < 0.03 * np.linalg.norm(exact), "too noisy to notice a gradient that is a seventh too large"
        assert np.all(np.abs(difference) < norm.isf(1e-4 / 2 / error.size) * error)


def test_the_bias_of_truncated_windows_is_noticed(float64):
    difference, error, _ = differences(Truncated(window=4, staggered=False), 3)
    assert np.any(np.abs(difference) > norm.isf(1e-4 / 2 / error.size) * error)


@pytest.mark.parametrize("name", OTHERS)
def test_one_trace_serves_every_meta_step_of_every_seed(name):
    chex.clear_trace_counter()
    learner = LIFETIMES["dictionary" if name in ("forward", "persistent") else "per projection"]
    pool = learner.tasks.split(0).train
    assert isinstance(OTHERS[name], Estimator)
    with jax.numpy_dtype_promotion("standard"):  # for Optax
        optimizer = Gradient(batch_size=3, estimator=OTHERS[name])
        step = chex.assert_max_traces(lambda state, key: optimizer.step(learner, pool, state, key), n=1)
        keys = jax.random.split(KEY, 2)
        init = lambda key: optimizer.init(learner, pool, learner.init_theta(key), key)
        state = before = jax.jit(jax.vmap(init))(keys)
        run = jax.jit(jax.vmap(step))
        for _ in range(4):
            state, info = run(state, keys)
    assert info.nonfinite_lifetimes.tolist() == [0, 0]
    moved = ravel_pytree(jax.tree.map(jnp.subtract, state.iterate.theta, before.iterate.theta))[0]
    assert np.all(np.isfinite(moved))
    assert np.any(moved != 0)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, before)
