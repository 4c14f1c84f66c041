import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Plain, Polynomial, Remat, Reverse, Tabular, live

KEY = jax.random.key(0)
REMAT = Reverse(scan=Remat())
BASE = {
    "rule": Polynomial(terms=("sixteen", "oja")),
    "circuit": Feedforward(hidden=(4,)),
    "tasks": Boolean(),
    "inner_loop": InnerLoop(presentations=40, loss_along=0.5),
}
CASES = {
    "boolean": BASE,
    "per projection": BASE | {"inner_loop": InnerLoop(presentations=40, theta="per_projection")},
    "transpose": BASE | {"circuit": Feedforward(hidden=(4, 3), backward="transpose", derivative=True)},
    "tabular": BASE | {"circuit": Feedforward(hidden=(6,), output="softmax"), "tasks": Tabular()},
}


def setting(case):
    life = Lifetime(**CASES[case])
    theta = life.theta(KEY)
    theta = 0.02 * jax.random.normal(jax.random.key(5), theta.shape)
    return life, theta, life.tasks.sample(KEY, life.tasks.split(0).train, 3)


def estimated(life, theta, task, estimator=REMAT):
    return jax.jit(lambda theta: estimator.estimate(life, theta, task, (), KEY)[0])(theta)


@pytest.mark.parametrize("case", CASES)
def test_gradient_equals_finite_differences(case, float64):
    life, theta, task = setting(case)

    def loss(theta):
        constant, carry = life.birth(KEY, task)
        carry, seen = live(life, theta, constant, carry, jnp.arange(life.presentations))
        return jnp.sum(seen.loss) + life.assess(theta, constant, carry)[0]

    estimate = estimated(life, theta, task)
    step = 1e-6
    shifts = step * np.eye(theta.size).reshape(theta.size, *theta.shape)
    losses = jax.jit(jax.vmap(loss))
    np.testing.assert_allclose(estimate.loss, losses(theta[None])[0], rtol=1e-12)
    numeric = (losses(theta[None] + shifts) - losses(theta[None] - shifts)) / (2 * step)
    assert np.abs(numeric).max() > 1e-2
    np.testing.assert_allclose(estimate.gradient.reshape(-1), numeric, rtol=1e-6, atol=1e-8)


def test_scans_agree_on_the_gradient(float64):
    life, theta, task = setting("boolean")
    one, two = (estimated(life, theta, task, Reverse(scan=scan)) for scan in (Plain(), Remat()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), one, two)


def test_reverse_equals_forward_mode(float64):
    life, theta, task = setting("per projection")
    estimate = estimated(life, theta, task)
    forward = jax.jit(jax.jacfwd(lambda theta: estimated(life, theta, task).loss))(theta)
    np.testing.assert_allclose(estimate.gradient, forward, rtol=1e-10, atol=1e-12)
