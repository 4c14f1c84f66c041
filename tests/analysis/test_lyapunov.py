import math

import closed
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, unroll
from metarule.analysis.lyapunov import lyapunov_exponent
from metarule.lifetime.unroll import step_at

KEY = jax.random.key(0)


def lifetime(initial, bound=4.0, steps=20):
    return Lifetime(
        rule=Polynomial(terms=tuple(initial), initial=initial),
        circuit=Feedforward(hidden=(3,)),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(steps=steps, weight_bound=bound),
    )


def exponents(learner, lifetimes=3):
    return lyapunov_exponent(learner, learner.init_theta(KEY), learner.tasks.split(0).train, KEY, lifetimes)


@pytest.mark.parametrize("rate", [0.01, -0.05])
def test_perturbations_grow_with_weights_that_grow_in_proportion(rate):
    np.testing.assert_allclose(exponents(lifetime({"weight": rate}, bound=100.0)), np.log(1 + rate), rtol=1e-3)


def test_perturbations_vanish_if_all_weights_are_clipped():
    np.testing.assert_array_equal(exponents(lifetime({"1": 100.0})), -np.inf)


def test_perturbations_beyond_the_range_of_floats_are_measured():
    rule = {"pre*modulator": 0.1, "weight": 5.0}
    np.testing.assert_allclose(exponents(lifetime(rule, bound=math.inf, steps=30)), np.log(6.0), atol=0.1)


def test_the_exponent_is_that_of_the_product_of_all_jacobians():
    learner = lifetime({"pre*modulator": 0.4, "pre*post": 0.1})
    theta, pool = learner.init_theta(KEY), learner.tasks.split(0).train
    task_key, lifetime_key, perturbation_key = jax.random.split(jax.random.fold_in(KEY, 1), 3)
    context, state = learner.init(theta, lifetime_key, learner.tasks.sample(task_key, pool, 1))
    direction = state._replace(
        weights=tuple(
            jax.random.normal(key, weight.shape)
            for key, weight in zip(jax.random.split(perturbation_key, 2), state.weights, strict=True)
        )
    )
    run = lambda state: unroll(learner, theta, context, state, jnp.arange(20))[0]
    _, after = jax.jvp(run, (state,), (direction,))
    size = lambda tree: np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))
    np.testing.assert_allclose(exponents(learner)[1], np.log(size(after) / size(direction)) / 20, rtol=1e-4, atol=1e-6)


def test_in_a_closed_loop_the_network_is_perturbed_and_the_task_is_not():
    """The product of the Jacobians of the weights along the trajectory; the state of the task holds counts."""
    learner, theta = closed.LEARNER, jnp.array([3.0, 2.0])
    pool = learner.tasks.split(0).train
    exponent = lyapunov_exponent(learner, theta, pool, KEY, 2)[1]
    task_key, lifetime_key, perturbation_key = jax.random.split(jax.random.fold_in(KEY, 1), 3)
    context, state = learner.init(theta, lifetime_key, learner.tasks.sample(task_key, pool, 1))
    first = direction = jax.random.normal(jax.random.split(perturbation_key, 1)[0], state.weights[0].shape)
    for t in range(learner.steps):
        of_weights = lambda weights, state=state, t=t: step_at(
            learner, theta, context, state._replace(weights=(weights,)), jnp.asarray(t)
        )[0].weights[0]
        _, direction = jax.jvp(of_weights, (state.weights[0],), (direction,))
        state, _ = step_at(learner, theta, context, state, jnp.asarray(t))
    expected = np.log(np.linalg.norm(direction) / np.linalg.norm(first)) / learner.steps
    assert abs(expected) > 1e-2
    np.testing.assert_allclose(exponent, expected, rtol=1e-4)
