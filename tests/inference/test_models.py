import math

import jax
import numpy as np
import pytest
from msgspec.structs import replace
from recorded import learner_on
from scipy.stats import norm
from two_terms import RULE, recordings

from metarule import Polynomial
from metarule.inference import make_problem
from metarule.inference.models import (
    INFERRED,
    NULL,
    Model,
    _direction,
    _null,
    _parameters,
    compared_models,
    models_report,
    of_fit,
)
from metarule.inference.predictions import observations
from metarule.meta import GaussNewton
from metarule.rules.terms import Trace
from metarule.runs.inference import in_double_precision


def test_criteria_and_differences_by_hand(noisy):
    inferred = Model(np.arange(8.0), 3, {"r2": {"activity": 0.9}, "deviance_explained": None})
    other = Model(np.array([0.0] * 6 + [4.0, 7.0]), 1, {"r2": {"activity": 0.5}, "deviance_explained": None})
    report = models_report(noisy, {INFERRED: inferred, "other": other})
    # Six animals are fitted, with 15 steps of two neurons each; two are held out.
    assert report[INFERRED] == {
        "log_likelihood": 13,
        "aic": 2 * 3 - 2 * 15,
        "bic": pytest.approx(3 * math.log(180) - 2 * 15),
        "parameters": 3,
        "r2": {"activity": 0.9},
        "deviance_explained": None,
        "noise": {},
        "difference": None,
    }
    # Differences of 2 and 0; the 97.5th percentile of t with one degree of freedom is 12.706.
    difference = {"mean": 1, "low": pytest.approx(1 - 12.706, abs=1e-3), "high": pytest.approx(1 + 12.706, abs=1e-3)}
    assert report["other"]["difference"] == difference
    assert (report["other"]["aic"], report["other"]["log_likelihood"]) == (2, 11)


def test_the_null_model_is_the_mean_and_variance_of_fitted_animals(noisy):
    activity = noisy.animals.activity.at[0, 2, 1].set(math.nan).at[7, 0].set(math.nan)
    gaps = noisy._replace(animals=noisy.animals._replace(activity=activity))
    null, values = _null(gaps), np.asarray(activity)
    mean = np.nanmean(values[:6], axis=(0, 1))
    deviation = np.sqrt(np.nanmean((values[:6] - mean) ** 2))
    expected = np.nansum(norm.logpdf(values, mean, deviation), axis=(1, 2))
    np.testing.assert_allclose(null.log_likelihood, expected, rtol=1e-9)
    assert null.parameters == 3
    assert null.explained["r2"]["activity"] == pytest.approx(0)
    assert np.isnan(observations(gaps.learner, gaps.animals)["activity"]).sum() == 3


@pytest.fixture(scope="module")
@in_double_precision()
def wide(noisy):
    """A family that has the rules by name."""
    terms = ("taylor(pre, post, weight; 2)", "-2*pre*post*weight^3")
    learner = replace(noisy.learner, rule=replace(RULE, terms=terms))
    return make_problem(learner, learner.tasks.split(0), GaussNewton())


@pytest.mark.parametrize(
    ("name", "coefficients"),
    [
        ("hebb", {"pre*post": 1}),
        ("anti_hebb", {"pre*post": -1}),
        ("oja", {"pre*post": 1, "post^2*weight": -1}),
    ],
)
def test_a_rule_by_name_is_a_direction_of_a_family_that_has_its_terms(name, coefficients, wide):
    direction = _direction(wide, name)
    assert {wide.terms[number]: direction[number] for number in np.flatnonzero(direction)} == coefficients


@pytest.mark.parametrize("name", ["bcm", "covariance", "delta", "three_factor"])
def test_rules_with_other_variables_are_no_directions(name, wide):
    assert _direction(wide, name) is None


def test_a_family_without_some_term_of_a_rule_does_not_have_it(noisy):
    assert _direction(noisy, "oja") is None
    assert _direction(noisy, "hebb") is not None


def test_rules_with_traces_are_compared_with_rules_by_name_outside_of_them(noisy):
    rule = replace(RULE, terms=("pre*post", "pre*slow"), traces={"slow": Trace(of="post", decay=0.5)})
    learner = replace(noisy.learner, rule=rule)
    assert _direction(make_problem(learner, learner.tasks.split(0), GaussNewton()), "hebb") is None


def test_rules_by_name_have_the_parameters_of_all_projections(noisy):
    rule, one = Polynomial(terms=("hebb", "covariance")), noisy.learner
    parts = {
        "circuit": replace(one.circuit, hidden=(2,)),
        "inner_loop": replace(one.inner_loop, theta="per_projection"),
    }
    learner = replace(one, rule=rule, **parts)
    problem = make_problem(learner, learner.tasks.split(0), GaussNewton())
    directions, decays = _parameters(problem, ("hebb", "covariance"))
    # θ: (hebb, covariance) of each projection, then two logits of each.
    assert {name: np.nonzero(rows)[1].tolist() for name, rows in directions.items()} == {
        "hebb": [0, 2],
        "covariance": [1, 3, 5, 7, 4, 6],
    }
    assert (decays, problem.size) == (4, 8)


@pytest.mark.long
def test_models_are_compared_in_order_and_impossible_ones_left_out(noisy, empty, selection):
    split = noisy.learner.tasks.split(0)
    models = dict(compared_models(noisy, split, GaussNewton(), empty, ("hebb", "delta", "oja")))
    assert list(models) == [NULL, "fixed weights", "hebb", "oja"]
    assert {name: model.parameters for name, model in models.items()} == {
        NULL: 3,
        "fixed weights": 1,
        "hebb": 2,
        "oja": 2,
    }
    scores = {name: model.log_likelihood[noisy.scored].sum() for name, model in models.items()}
    best = of_fit(noisy, selection.fitted).log_likelihood[noisy.scored].sum()
    assert best > scores["hebb"] > scores["fixed weights"]
    assert best > scores["oja"]


@pytest.mark.long
def test_a_rule_outside_the_family_is_fitted_as_one_inside(noisy, wide, empty):
    split = noisy.learner.tasks.split(0)
    outside = dict(compared_models(noisy, split, GaussNewton(), empty, ("oja",)))["oja"]
    start = wide.start(jax.numpy.zeros(wide.size))
    inside = dict(compared_models(wide, split, GaussNewton(), start, ("oja",)))["oja"]
    np.testing.assert_allclose(inside.log_likelihood, outside.log_likelihood, rtol=1e-6)


@pytest.mark.long
def test_initial_weights_that_are_fitted_are_compared_with_zero(tmp_path):
    animals = [{name: arrays[name] for name in ("inputs", "activity")} for arrays in recordings(0.1)]
    learner = learner_on(tmp_path, animals, replace(RULE, terms=("pre*post",)), test_animals=0)
    problem = make_problem(learner, learner.tasks.split(0), GaussNewton())
    start = problem.start(jax.numpy.zeros(1))
    models = dict(compared_models(problem, learner.tasks.split(0), GaussNewton(), start, ("hebb",)))
    assert list(models) == [NULL, "fixed weights", "initial weights 0", "hebb"]
    # The noise and a coefficient; the weights of the animals are integrated out.
    assert [models[name].parameters for name in list(models)[1:]] == [1, 2, 2]
    assert models["hebb"].log_likelihood.sum() > models["initial weights 0"].log_likelihood.sum()
