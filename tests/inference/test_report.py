import jax
import numpy as np
import pytest

from metarule.inference import Inference, infer_rule
from metarule.inference.models import ALL_TERMS, Model
from metarule.inference.report import _warnings
from metarule.inference.selection import Selection
from metarule.meta import GaussNewton
from metarule.runs.inference import in_double_precision

KEYS = "animals observations selected terms rule equation noise r2 deviance_explained held_out models selection \
    initial_weights unknowns identified coefficients warnings"


def inferred(problem, settings, optimizer=None, recall=None):
    learner, said = problem.learner, []
    recall = recall or (lambda name, compute: compute())
    split = learner.tasks.split(0)
    theta = jax.numpy.full(8, 0.01)
    return infer_rule(learner, split, theta, optimizer or GaussNewton(), settings, 0, said.append, recall), said


@pytest.fixture(scope="module")
@in_double_precision()
def whole(noisy, selection):
    return inferred(noisy, Inference(models=("hebb",), bootstrap=50))


def test_a_report_has_all_parts(whole, selection):
    found, said = whole
    report = found.report
    assert list(report) == KEYS.split()
    assert (report["animals"], report["observations"]) == ({"fitted": 6, "held_out": 2}, {"activity": 240})
    assert (report["selected"], report["terms"], report["rule"]) == (["weight", "pre*post"], 8, "polynomial")
    assert report["equation"] == found.problem.learner.equation(found.theta)
    assert report["noise"]["activity"] == pytest.approx(0.1, rel=0.15)
    assert 0.99 < report["r2"]["activity"] < 1
    assert list(report["models"]) == ["inferred rule", ALL_TERMS, "null", "fixed weights", "hebb"]
    assert (report["held_out"], report["initial_weights"]) == ("held-out animals", "known")
    assert report["identified"]["verdict"] == "identified"
    assert [step["term"] for step in report["selection"]] == ["pre*post", "weight"]
    assert said[0] == "fitting all 8 terms"
    assert said[1:3] == ["added: pre*post", "added: weight"]
    np.testing.assert_allclose(np.flatnonzero(found.theta), selection.terms)


def test_a_coefficient_has_its_intervals(whole, selection):
    coefficients = whole[0].report["coefficients"]
    assert list(coefficients) == ["weight", "pre*post"]
    for name, truth in (("weight", -0.05), ("pre*post", 0.1)):
        row = coefficients[name]
        assert list(row) == ["estimate", "low", "high", "scale", "bootstrap", "profile"]
        assert row["low"] < row["estimate"] < row["high"]
        assert row["bootstrap"][0] < row["bootstrap"][1]
        assert row["estimate"] == pytest.approx(truth, abs=0.002)
        assert (row["scale"], row["profile"]) == (0.1, None)


def test_all_terms_are_kept_on_request(noisy, everything):
    found, _ = inferred(noisy, Inference(terms="all", models=("hebb",), bootstrap=0))
    np.testing.assert_allclose(found.theta, everything.shared, rtol=1e-6, atol=1e-9)
    assert found.report["selected"] == list(noisy.terms)
    assert found.report["selection"] == []
    assert ALL_TERMS not in found.report["models"]
    assert found.report["coefficients"]["pre"]["bootstrap"] is None


def test_a_laplace_prior_selects_terms_that_are_fitted_anew_without_it(noisy, empty):
    found, _ = inferred(noisy, Inference(models=("hebb",), bootstrap=0), GaussNewton(l1=30.0))
    selected = found.report["selected"]
    assert {"weight", "pre*post"} < set(selected)
    assert not {"1", "post"} & set(selected)
    alone = noisy.fit(empty, noisy.directions([noisy.terms.index(term) for term in selected]))
    np.testing.assert_allclose(found.theta, alone.shared, rtol=1e-5, atol=1e-8)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="models: 'sgd' is no rule by name; allowed: hebb, anti_hebb"):
        Inference(models=("sgd",))


def row(estimate, low, high, scale=1.0):
    return {"estimate": estimate, "low": low, "high": high, "scale": scale, "bootstrap": [low, high]}


def warned(problem, selection, coefficients, models=None, done=True, bic=10.0):
    criteria = {"inferred rule": {"bic": 20.0}, "oja": {"bic": bic}}
    report = {"coefficients": coefficients, "selected": list(coefficients), "models": criteria}
    fitted = selection.fitted._replace(iterate=selection.fitted.iterate._replace(done=done))
    return _warnings(problem, Selection((), fitted, ()), models or {}, report)


def test_reasons_to_doubt_are_named(noisy, selection):
    problem = noisy._replace(is_fitted=np.arange(20) < 12)
    assert warned(problem, selection, {"pre": row(1.0, 0.6, 1.4)}) == []
    wide = warned(problem, selection, {"pre": row(1.0, 0.4, 1.6), "post": row(1.0, None, None)})
    assert wide == ["intervals are wider than the estimates of pre, post"]
    (unfinished,) = warned(problem, selection, {"pre": row(1.0, 0.9, 1.1)}, done=False)
    assert unfinished == "the fit has not converged; set optimizer.steps higher"
    (scale,) = warned(problem, selection, {"pre": row(50.0, 49.0, 51.0)})
    assert scale.startswith("the largest coefficient is 50 times the parameter scale")
    (better,) = warned(problem, selection, {"pre": row(1.0, 0.9, 1.1)}, bic=9.94)
    assert better.startswith("oja explains the recordings better")
    assert better.endswith("its BIC is 9.9, that of the inferred rule 20.0")
    (none,) = warned(problem, selection, {})
    assert none == "no term is worth its coefficient: fixed weights explain the recordings as well"
    few, alone = (noisy._replace(is_fitted=np.arange(8) < count) for count in (6, 8))
    (count,) = warned(few, selection, {"pre": row(1.0, 0.9, 1.1)})
    assert count == "6 animals are few: bootstrap intervals are too short"
    assert warned(few, selection, {"pre": row(1.0, 0.9, 1.1) | {"bootstrap": None}}) == []
    assert warned(alone, selection, {"pre": row(1.0, 0.9, 1.1)})[0].startswith("no animal is held out: ")


def test_models_that_predict_better_are_named(noisy, selection):
    problem, rows = noisy._replace(is_fitted=np.arange(20) < 12), {"pre": row(1.0, 0.9, 1.1)}
    better = np.where(np.arange(20) % 2, 1.0, 1.5)
    models = {"inferred rule": Model(np.zeros(20), 2, {}), ALL_TERMS: Model(better, 9, {})}
    models["oja"] = models[ALL_TERMS]
    assert warned(problem, selection, rows, models) == [
        "all terms together predict held-out animals better than the inferred rule",
        "model 'oja' predicts held-out animals better than the inferred rule",
    ]
    models["oja"] = models[ALL_TERMS] = Model(better * np.where(np.arange(20) % 4 > 1, 1, -1), 9, {})
    assert warned(problem, selection, rows, models) == []
