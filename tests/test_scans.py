import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.scans import Plain, Remat


def body(carry, x):
    carry = jnp.tanh(carry * x + 0.1)
    return carry, carry**2


@pytest.mark.parametrize("scan", [Plain(), Remat()])
def test_scans_equal_lax_scan_with_their_gradient(scan, float64):
    def loss(run, start):
        carry, seen = run(body, start, jnp.linspace(0.5, 1.5, 13))
        return jnp.sum(seen) + jnp.sum(carry)

    start = jnp.array([0.3, -0.8])
    expected, gradient = jax.value_and_grad(lambda start: loss(jax.lax.scan, start))(start)
    found, found_gradient = jax.value_and_grad(lambda start: loss(scan, start))(start)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(found_gradient, gradient, rtol=1e-12)


def test_remat_keeps_less_than_plain():
    from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial, Reverse

    life = Lifetime(
        rule=Polynomial(), circuit=Feedforward(hidden=(16,)), tasks=Boolean(), inner_loop=InnerLoop(presentations=300)
    )
    theta, key = life.theta(jax.random.key(0)), jax.random.key(1)
    task = life.tasks.sample(key, life.tasks.split(0).train, 0)

    def temporary_bytes(scan):
        estimate = lambda theta: Reverse(scan=scan).estimate(life, theta, task, (), key)[0].gradient
        return jax.jit(estimate).lower(theta).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(Remat()) < temporary_bytes(Plain())
