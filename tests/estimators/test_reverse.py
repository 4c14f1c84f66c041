"""Reverse mode in deeper networks and of other losses than those of the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import training_task

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Remat, Reverse, Tabular, unroll

KEY = jax.random.key(0)
RULE, LOOP = Polynomial(terms=("sixteen", "oja")), InnerLoop(steps=40, online_loss_weight=0.5)
CASES = {
    "transpose": (Feedforward(hidden=(4, 3), feedback="transpose", derivative=True), Boolean()),
    "tabular": (Feedforward(hidden=(6,), output="softmax"), Tabular()),
}


@pytest.mark.parametrize(("circuit", "tasks"), CASES.values(), ids=CASES)
def test_gradient_equals_finite_differences(circuit, tasks, float64):
    learner = Lifetime(rule=RULE, circuit=circuit, tasks=tasks, inner_loop=LOOP)
    theta = 0.02 * np.random.default_rng(5).normal(size=learner.init_theta(KEY).shape)
    task = training_task(tasks, 3)

    def loss(theta):
        context, state = learner.init(theta, KEY, task)
        state, outputs = unroll(learner, theta, context, state, jnp.arange(learner.steps))
        return jnp.sum(outputs.loss) + learner.evaluate(theta, context, state)[0]

    estimate = jax.jit(lambda theta: Reverse(scan=Remat()).estimate(learner, theta, task, (), KEY)[0])(theta)
    shifts = 1e-6 * np.eye(theta.size)
    shifted = theta[None] + np.concatenate([0 * shifts[:1], shifts, -shifts])
    expected, *losses = jax.jit(jax.vmap(loss))(shifted)
    np.testing.assert_allclose(estimate.loss, expected, rtol=1e-12)
    numeric = np.subtract(losses[: theta.size], losses[theta.size :]) / 2e-6
    assert np.abs(numeric).max() > 1e-2
    np.testing.assert_allclose(estimate.gradient, numeric, rtol=1e-6, atol=1e-8)
