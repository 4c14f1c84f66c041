import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.tasks.losses import binary_cross_entropy, cross_entropy


def test_literal_values():
    assert binary_cross_entropy(jnp.array([0.25]), jnp.array([1.0])) == pytest.approx(np.log(4), rel=1e-6)
    assert binary_cross_entropy(jnp.array([0.25]), jnp.array([0.0])) == pytest.approx(np.log(4 / 3), rel=1e-6)
    assert cross_entropy(jnp.array([0.5, 0.25, 0.25]), jnp.array([0.0, 1.0, 0.0])) == pytest.approx(np.log(4), rel=1e-6)


@pytest.mark.parametrize("loss", [binary_cross_entropy, cross_entropy])
def test_loss_and_gradient_of_certain_outputs_are_finite(loss):
    for output in (jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])):
        value, gradient = jax.value_and_grad(loss)(output, jnp.array([1.0, 0.0]))
        assert jnp.isfinite(value)
        assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize(("loss", "link"), [(binary_cross_entropy, jax.nn.sigmoid), (cross_entropy, jax.nn.softmax)])
def test_with_its_link_the_gradient_is_output_minus_target(loss, link, float64):
    potential, target = jnp.array([-3.0, 0.5, 8.0]), jnp.array([0.0, 1.0, 0.0])
    gradient = jax.grad(lambda potential: loss(link(potential), target))(potential)
    np.testing.assert_allclose(gradient, link(potential) - target, atol=1e-10)
