import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.recordings.likelihood import by_kind, fit_of
from metarule.types import Observed


def test_observations_are_vectors_by_kind():
    observed = Observed(jnp.zeros((4, 2)), (None, jnp.ones((4, 3, 2)), 2 * jnp.ones((4, 1, 1))), 3 * jnp.ones(4))
    found = by_kind(observed, axes=1)
    assert {kind: one.shape for kind, one in found.items()} == {
        "activity": (4, 2),
        "weights": (4, 7),
        "choices": (4, 1),
    }
    np.testing.assert_array_equal(found["weights"][0], [1] * 6 + [2])
    assert list(by_kind(Observed(choice=jnp.ones(())))) == ["choices"]


@pytest.mark.parametrize("kind", ["activity", "weights", "choices"])
def test_slope_and_curvature_are_derivatives_of_the_loss(kind, float64):
    predicted, observed = jnp.array([0.2, 0.7, 0.9, 0.4]), jnp.array([0.0, 1.0, np.nan, 1.0])
    loss = lambda predicted, observed: jnp.sum(fit_of(kind, predicted, observed).loss)
    fit = jax.jit(fit_of, static_argnums=0)(kind, predicted, observed)
    slope = jax.jit(jax.grad(loss))(predicted, observed)
    np.testing.assert_allclose(fit.slope, slope, rtol=1e-12)
    np.testing.assert_array_equal(fit.observed, [True, True, False, True])
    assert fit.loss[2] == fit.slope[2] == fit.curvature[2] == 0
    # The curvature is its mean over observations that the prediction makes likely.
    second = jax.jit(jax.vmap(jax.grad(jax.grad(loss)), (0, 0)))
    at_one, at_zero = (second(predicted, jnp.full(4, one)) for one in (1.0, 0.0))
    expected = predicted * at_one + (1 - predicted) * at_zero
    np.testing.assert_allclose(fit.curvature, jnp.where(fit.observed, expected, 0.0), rtol=1e-12)


def test_losses_are_those_of_noise_and_choices():
    np.testing.assert_allclose(fit_of("activity", jnp.array([3.0]), jnp.array([1.0])).loss, [2.0])
    np.testing.assert_allclose(
        fit_of("choices", jnp.array([0.25, 0.25]), jnp.array([1.0, 0.0])).loss, -np.log([0.25, 0.75])
    )


def test_a_choice_that_was_ruled_out_has_a_finite_loss(float64):
    fit = fit_of("choices", jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]))
    assert np.all(np.isfinite(fit.loss)) and np.all(fit.loss > 20)
    assert np.all(np.isfinite(fit.slope))
