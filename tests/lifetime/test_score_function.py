"""Gradients where choices are sampled, against derivatives of expectations that are sums over all choices.

A mean is compared with an expectation by its z-score. |z| < 3.9 fails by chance in 1 of 10,000 tests of a number.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed import LEARNER, STEPS, Chooser, expected_gradient, expected_loss
from lifetime_batches import lifetime
from msgspec.structs import replace

from metarule import meta_loss
from metarule.estimators import Auto, Evolution, Forward, Persistent, Reverse, Truncated
from metarule.lifetime.scans import Remat
from metarule.lifetime.score_function import baseline_of, initial_mean, score_term, to_go, updated_mean
from metarule.lifetime.unroll import lifetime_loss, unroll

KEY = jax.random.key(11)
THETA = np.array([3.0, 2.0])
LIFETIMES = 20_000
LARGEST_Z = 3.9
# A wrong gradient is further from the expectation than chance would ever be.
CLEARLY = 8.0
POOL = LEARNER.tasks.split(0).train


def numbers(function, *shared):
    """Numbers of many lifetimes, each on a task of its own."""
    keys = jax.random.split(KEY, LIFETIMES)
    one = lambda key, number: function(key, LEARNER.tasks.sample(key, LEARNER.tasks.split(0).train, number), *shared)
    return jax.device_get(jax.jit(jax.vmap(one))(keys, jnp.arange(LIFETIMES)))


def z_scores(values, expected):
    return (values.mean(axis=0) - expected) / (values.std(axis=0) / np.sqrt(len(values)))


def gradients(estimator, key, task, state=None):
    theta = jnp.asarray(THETA)
    state = estimator.init(LEARNER, theta, KEY) if state is None else state
    return estimator.estimate(LEARNER, theta, task, state, key)[0]


@pytest.mark.parametrize("estimator", [Reverse(scan=Remat()), Forward(), Auto()], ids=["reverse", "forward", "auto"])
def test_gradients_are_unbiased(estimator, float64):
    estimate = numbers(partial(gradients, estimator))
    assert estimate.gradient.dtype == np.float64
    assert np.abs(z_scores(estimate.loss, expected_loss(THETA))) < LARGEST_Z
    expected = expected_gradient(THETA)
    assert np.abs(expected).min() > 1e-2
    assert np.abs(z_scores(estimate.gradient, expected)).max() < LARGEST_Z


def test_without_the_term_gradients_are_biased(float64):
    """The same test fails for the derivative with the choices as constants."""

    def loss(theta, key, task):
        context, state = LEARNER.init(theta, key, task)
        return jnp.sum(unroll(LEARNER, theta, context, state, jnp.arange(STEPS))[1].loss)

    pathwise = numbers(lambda key, task: jax.grad(loss)(jnp.asarray(THETA), key, task))
    difference = np.abs(pathwise.mean(axis=0) - expected_gradient(THETA))
    errors = pathwise.std(axis=0) / np.sqrt(LIFETIMES)
    assert np.all(difference > CLEARLY * errors)
    assert np.abs(pathwise[:, 1]).max() > 0  # of the wager, which is not sampled


def test_the_gradient_of_the_meta_loss_has_the_term(float64):
    pool = LEARNER.tasks.split(0).train
    gradient = jax.jit(jax.vmap(jax.grad(partial(meta_loss, LEARNER)), (None, None, 0)))
    values = jax.device_get(gradient(jnp.asarray(THETA), pool, jax.random.split(KEY, LIFETIMES)))
    assert np.abs(z_scores(values, expected_gradient(THETA))).max() < LARGEST_Z


def test_the_baseline_lowers_the_variance_and_keeps_the_mean(float64):
    estimator = Reverse(scan=Remat())

    @jax.jit
    def earlier():
        def one(state, number):
            task = LEARNER.tasks.sample(KEY, LEARNER.tasks.split(0).train, number)
            key = jax.random.fold_in(jax.random.key(0), number)
            return estimator.estimate(LEARNER, theta, task, state, key)[1], None

        theta = jnp.asarray(THETA)
        return jax.lax.scan(one, estimator.init(LEARNER, theta, KEY), jnp.arange(500))[0]

    mean = earlier()
    assert mean.lifetimes == 500
    assert abs(mean.values[0] - expected_loss(THETA)) < 0.1
    with_mean, without = (numbers(partial(gradients, estimator), state).gradient for state in (mean, initial_mean()))
    assert np.abs(z_scores(with_mean, expected_gradient(THETA))).max() < LARGEST_Z
    variances = with_mean.var(axis=0), without.var(axis=0)
    assert np.all(variances[0] < variances[1])
    assert variances[0][0] < variances[1][0] / 2


def test_the_term_has_the_value_zero_and_the_derivative_of_its_equation(float64):
    losses, log_probabilities, baseline = (np.random.default_rng(number).normal(size=7) for number in range(3))
    left = np.array([losses[t:].sum() + 0.5 for t in range(7)])
    np.testing.assert_allclose(to_go(jnp.asarray(losses), 0.5), left, rtol=1e-12)
    for given, expected in ((jnp.asarray(baseline), left - baseline), (None, left)):
        term = lambda logs, left, given=given: score_term(left, logs, given)
        value, by_logs = jax.value_and_grad(term)(jnp.asarray(log_probabilities), jnp.asarray(left))
        assert value == 0
        np.testing.assert_allclose(by_logs, expected, rtol=1e-12)
        np.testing.assert_array_equal(jax.grad(term, 1)(jnp.asarray(log_probabilities), jnp.asarray(left)), 0)


def test_the_running_mean_is_that_of_a_plain_loop(float64):
    """Lifetimes of several lengths, one of which diverges and does not count."""
    generator = np.random.default_rng(5)
    state, values, count = initial_mean(), np.zeros(64), 0
    for number in range(40):
        left = generator.normal(size=(5, 64, 100)[number % 3])
        left[2] = np.nan if number == 7 else left[2]
        state = updated_mean(state, jnp.asarray(left))
        if number != 7:
            count += 1
            new = np.interp(np.linspace(0, 1, 64), np.linspace(0, 1, len(left)), left)
            values = values + max(1 / count, 0.05) * (new - values)
    assert state.lifetimes == count == 39
    np.testing.assert_allclose(state.values, values, rtol=1e-12, atol=1e-14)
    expected = np.interp(np.linspace(0, 1, 10), np.linspace(0, 1, 64), values)
    np.testing.assert_allclose(baseline_of(state, 10), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("closed", [False, True], ids=["open loop", "closed loop"])
def test_a_learner_that_does_not_sample_has_no_state_and_the_plain_gradient(closed):
    learner = lifetime(steps=6)
    if closed:
        learner = replace(LEARNER, circuit=Chooser(stochastic=False))
    theta = learner.init_theta(KEY)
    task = learner.tasks.sample(KEY, learner.tasks.split(0).train, 0)
    estimator = Reverse(scan=Remat())
    assert not learner.samples
    assert estimator.init(learner, theta, KEY) == ()

    @jax.jit
    def both(theta):
        plain = lambda theta: lifetime_loss(learner, theta, task, KEY)[0]
        return estimator.estimate(learner, theta, task, (), KEY)[0].gradient, jax.grad(plain)(theta)

    estimated, plain = both(theta)
    np.testing.assert_allclose(estimated, plain, rtol=1e-5, atol=1e-7)
    assert np.abs(plain).max() > 0


def test_evolution_needs_no_term(float64):
    """The derivative of the smoothed expectation, which is near that of the expectation."""
    values = numbers(partial(gradients, Evolution(sigma=0.1, pairs=2)))
    assert np.abs(z_scores(values.gradient, expected_gradient(THETA))).max() < LARGEST_Z


@pytest.mark.parametrize(
    "estimator", [Persistent(window=2, pairs=2), Truncated(window=2)], ids=["persistent", "truncated"]
)
def test_windows_of_a_closed_loop_continue(estimator):
    """Windows of half a lifetime, some of which begin the next lifetime."""
    theta = LEARNER.init_theta(KEY)

    @jax.jit
    def windows():
        def one(state, key):
            return estimator.estimate(LEARNER, theta, LEARNER.tasks.sample(key, POOL, 0), state, key)[::-1]

        return jax.lax.scan(one, estimator.init(LEARNER, theta, KEY), jax.random.split(KEY, 6))

    state, estimates = windows()
    counts = getattr(state, "lifetime", state).state.task["steps"]
    assert np.all((counts == 2) | (counts == 4))
    assert np.all(np.isfinite(estimates.gradient))
    assert np.all(np.any(estimates.gradient != 0, axis=-1))
