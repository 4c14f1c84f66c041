import jax
import numpy as np
import pytest
from two_terms import ANIMALS, TRUTH, recordings

from metarule.inference.predictions import deviance_explained, explained, observations, predictions, r_squared

NAN = np.nan


def truth(problem):
    return np.array([TRUTH.get(name, 0.0) for name in problem.terms])


def in_order(problem, name):
    """Arrays of all animals, in the order in which the problem has them."""
    return np.stack([one[name] for one in recordings(0.0)])[np.asarray(problem.animals.number)]


def test_predictions_are_the_activity_of_a_plain_loop(exact, empty):
    point = empty._replace(shared=jax.numpy.asarray(truth(exact)))
    predicted = predictions(exact.learner, exact.animals, point)
    np.testing.assert_allclose(predicted["activity"], in_order(exact, "activity"), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(observations(exact.learner, exact.animals)["activity"], in_order(exact, "activity"))
    report = explained(exact, jax.device_get(predicted))
    assert report == {"r2": {"activity": pytest.approx(1.0)}, "deviance_explained": None}


def test_held_out_animals_are_scored(exact, noisy):
    assert exact.is_fitted.tolist() == [True] * (ANIMALS - 2) + [False] * 2
    assert exact.scored.tolist() == [not one for one in exact.is_fitted]
    everyone = exact._replace(is_fitted=np.ones(ANIMALS, bool))
    assert everyone.scored.all()


def test_r_squared_is_relative_to_the_mean_of_fitted_animals():
    # One animal of two steps and two neurons; the fitted one has means of 1 and 4.
    fitted = np.array([[[0.0, 4.0], [2.0, NAN]]])
    observed = np.array([[[3.0, 5.0], [NAN, 4.0]]])
    predicted = np.array([[[2.0, 5.0], [100.0, 4.5]]])
    # Residuals 1, 0, −0.5; distances to the mean 2, 1, 0.
    assert r_squared(predicted, observed, fitted) == pytest.approx(1 - 1.25 / 5)
    assert r_squared(observed, observed, fitted) == 1
    assert r_squared(predicted, np.full_like(observed, NAN), fitted) is None


def test_networks_that_diverge_explain_nothing():
    observed = np.array([[[3.0], [NAN], [1.0]]])
    assert np.isnan(r_squared(np.full_like(observed, NAN), observed, observed))
    assert r_squared(np.array([[[3.0], [NAN], [1.0]]]), observed, observed) == 1


def test_deviance_is_relative_to_the_mean_choice_of_fitted_animals():
    fitted = np.array([[[1.0], [1.0], [1.0], [0.0], [NAN]]])
    observed, predicted = np.array([[[1.0], [0.0], [NAN]]]), np.array([[[0.9], [0.2], [0.5]]])
    left, whole = np.log(0.9) + np.log(0.8), np.log(0.75) + np.log(0.25)
    assert deviance_explained(predicted, observed, fitted) == pytest.approx(1 - left / whole)
    assert deviance_explained(np.full_like(observed, 0.75), observed, fitted) == pytest.approx(0)
    assert deviance_explained(predicted, np.full_like(observed, NAN), fitted) is None
