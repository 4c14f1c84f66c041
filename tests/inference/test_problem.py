import jax
import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import norm
from two_terms import TRUTH

from metarule import MLP, Gradient
from metarule.inference import make_problem, problem
from metarule.inference.predictions import observations, predictions
from metarule.meta.curvature import Curvature


def test_likelihoods_are_those_of_normal_noise(noisy, everything):
    predicted = predictions(noisy.learner, noisy.animals, everything.iterate.point)["activity"]
    observed = observations(noisy.learner, noisy.animals)["activity"]
    residual = np.asarray(predicted - observed)
    fitted = residual[noisy.is_fitted]
    deviation = np.sqrt(np.mean(fitted**2))
    expected = norm.logpdf(residual, scale=deviation).sum(axis=(1, 2))
    np.testing.assert_allclose(everything.log_likelihood, expected, rtol=1e-9)
    # The variance has the degrees of freedom of eight coefficients; the noise is one more fitted number.
    assert everything.variance == pytest.approx(np.sum(fitted**2) / (fitted.size - 8))
    assert everything.parameters == 9


@pytest.mark.parametrize("size", [1.0, 1e20, np.inf])
def test_likelihoods_of_large_curvatures_are_small(size):
    vector = np.array([1.0, -2.0])
    hessian = np.where(size < np.inf, size * np.outer(vector, vector), np.inf)
    curvature = Curvature(np.array([[9.0]]), np.array([[3.0]]), np.zeros((1, 1, 2)), hessian[None, None])
    likelihood = problem.log_likelihood(("choices",), curvature, np.ones(1), own=2)
    np.testing.assert_allclose(likelihood, [-3 - np.log1p(5 * size) / 2], rtol=1e-12)


def test_all_coefficients_are_found_within_their_noise(noisy, everything):
    truth = [TRUTH.get(name, 0.0) for name in noisy.terms]
    np.testing.assert_allclose(everything.shared, truth, atol=0.005)
    assert bool(everything.iterate.done)


def test_a_fit_moves_in_its_directions_only(noisy, empty):
    pre_post = noisy.terms.index("pre*post")
    fitted = noisy.fit(empty, noisy.directions([pre_post]))
    assert np.flatnonzero(fitted.shared).tolist() == [pre_post]
    assert fitted.parameters == 2
    assert fitted.iterate.curvature.gradient.shape == (8, 1, 1)


def test_fits_with_large_curvatures_run_one_after_another(noisy, empty, monkeypatch):
    directions = [noisy.directions([number]) for number in range(3)]
    together = noisy.fit_each([empty] * 3, directions, fits=8)
    monkeypatch.setattr(problem, "_CURVATURES", 2 * 8 * 8 * 8**2)  # of two fits: eight animals, eight directions
    one_by_one = noisy.fit_each([empty] * 3, directions, fits=8)
    for one, other in zip(together, one_by_one, strict=True):
        np.testing.assert_allclose(one.shared, other.shared, rtol=1e-9)


@pytest.mark.long
def test_animals_of_weight_0_do_not_count(noisy, empty):
    weights = noisy.is_fitted.astype(float)
    weights[0] = 0
    fits = noisy.fit_each([empty] * 2, [np.eye(8)] * 2, weights=[weights, noisy.is_fitted.astype(float)], fits=8)
    changed = noisy.animals._replace(activity=noisy.animals.activity.at[0].add(1.0))
    again = noisy._replace(animals=changed).fit_each([empty], [np.eye(8)], weights=[weights], fits=8)[0]
    np.testing.assert_allclose(fits[0].shared, again.shared, rtol=1e-9)
    assert not np.allclose(fits[0].shared, fits[1].shared, rtol=1e-6)


def test_fits_side_by_side_are_those_alone(noisy, empty, everything):
    pre_post = noisy.terms.index("pre*post")
    directions = [noisy.directions([pre_post]), np.eye(8)]
    small, large = noisy.fit_each([empty] * 2, directions, fits=8)
    np.testing.assert_allclose(large.shared, everything.shared, rtol=1e-6, atol=1e-9)
    assert (len(small.directions), len(large.directions)) == (1, 8)


def test_theta_is_that_of_a_point(noisy, everything):
    theta = noisy.theta(everything.shared)
    np.testing.assert_array_equal(theta, everything.shared)
    assert jax.tree.structure(theta) == jax.tree.structure(noisy.learner.init_theta(jax.random.key(0)))


@pytest.mark.long
def test_the_theta_of_a_network_is_not_fitted_anew(noisy):
    network = replace(noisy.learner, rule=MLP(inputs=("pre", "weight"), hidden=(3,)))
    problem = make_problem(network, network.tasks.split(0), Gradient())
    assert (problem.terms, problem.size, problem.nuisance.shape) == ((), 12, (0, 12))
    start = problem.start(network.init_theta(jax.random.key(1)))
    fitted = problem.fit(start, problem.directions(()))
    np.testing.assert_array_equal(fitted.shared, start.shared)
    assert fitted.parameters == 13
    assert bool(fitted.iterate.done)
