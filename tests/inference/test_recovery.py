import jax
import numpy as np
import pytest
from recorded import SIGMOID, learner_on

from metarule import Polynomial
from metarule.inference import make_problem
from metarule.inference.predictions import predictions
from metarule.inference.recovery import recover, resimulated
from metarule.meta import GaussNewton

# Largest |z| of a frequency: exceeded with probability 1e-5.
LARGEST_Z = 4.4


def test_recordings_without_noise_are_predictions_with_the_gaps_of_the_animals(noisy, selection):
    activity = noisy.animals.activity.at[0, 2, 1].set(np.nan).at[7, 0].set(np.nan)
    animals, point = noisy.animals._replace(activity=activity), selection.fitted.iterate.point
    again = resimulated(noisy.learner, animals, point, {"activity": 0.0}, jax.random.key(0))
    gaps = np.isnan(activity)
    assert gaps.sum() == 3
    expected = np.where(gaps, np.nan, predictions(noisy.learner, animals, point)["activity"])
    np.testing.assert_allclose(again.activity, expected, rtol=0, atol=1e-12)
    for name in ("inputs", "length", "number", "plastic"):
        np.testing.assert_array_equal(getattr(again, name), getattr(animals, name))


def test_noise_has_its_standard_deviation_and_differs_between_animals(noisy, selection):
    point = selection.fitted.iterate.point
    again = resimulated(noisy.learner, noisy.animals, point, {"activity": np.float64(0.3)}, jax.random.key(0))
    noise = np.asarray(again.activity - predictions(noisy.learner, noisy.animals, point)["activity"])
    # The standard error of a standard deviation of 240 numbers is 0.3/√480.
    assert abs(noise.std() - 0.3) < LARGEST_Z * 0.3 / np.sqrt(480)
    assert len(np.unique(noise.round(6))) == noise.size


def test_choices_are_drawn_anew_with_their_probability_and_teach(tmp_path):
    rng = np.random.default_rng(0)
    animals = [
        {
            "inputs": rng.normal(size=(50, 1)),
            "choices": np.where(np.arange(50) == 7, np.nan, rng.integers(0, 2, 50)),
            "initial_weights": np.array([[1.0]]),
        }
        for _ in range(20)
    ]
    rule = Polynomial(terms=("pre*modulator",), initial={"pre*modulator": 0.5})
    learner = learner_on(tmp_path, animals, rule, SIGMOID)
    problem = make_problem(learner, learner.tasks.split(0), GaussNewton())
    point = problem.start(jax.numpy.array([0.5]))
    again = resimulated(learner, problem.animals, point, {}, jax.random.key(1))
    choices, is_missing = np.asarray(again.choices), np.arange(50) == 7
    assert np.isnan(choices[:, is_missing]).all()
    assert set(choices[:, ~is_missing].ravel()) == {0, 1}
    # The modulator is the new choice minus its probability; a choice that was not recorded is drawn, too, and teaches.
    weights, p = np.ones(20), np.zeros((20, 50))
    for t, pre in enumerate(np.asarray(problem.animals.inputs)[:, :, 0].T):
        p[:, t] = 1 / (1 + np.exp(-weights * pre))
        if is_missing[t]:
            p, choices = p[:, :t], choices[:, :t]
            break
        weights = weights + 0.5 * pre * (choices[:, t] - p[:, t])
    assert abs((choices - p).sum() / np.sqrt((p * (1 - p)).sum())) < LARGEST_Z
    assert (choices != np.asarray(problem.animals.choices)[:, :7]).any()
    np.testing.assert_array_equal(again.target[:, :, 0], np.nan_to_num(again.choices, nan=0.5))


def test_coverage_and_bias_are_those_of_the_repetitions(noisy, selection):
    numbers = list(selection.terms)
    truth = selection.fitted.shared[numbers]
    away = [(0.1, 0.3), (0.3, -0.1), (-0.1, 0.1), (0.1, 0.1)]
    half = [(0.2, 0.2), (0.2, 0.2), (0.2, 0.2), (0.05, 0.2)]
    said, names = [], []

    def recall(name, compute):
        names.append(name)
        estimate, width = truth + np.array(away[len(names) - 1]), np.array(half[len(names) - 1])
        return {"estimate": estimate, "low": estimate - width, "high": estimate + width}

    report = recover(noisy, selection.fitted, numbers, 4, 0, said.append, recall)
    assert names == [f"recovery-000{number}" for number in range(4)]
    assert said == [0, 1, 2, 3]
    assert report == {
        "repetitions": 4,
        "coverage": 5 / 8,
        "terms": {
            "weight": {"bias": pytest.approx(0.1), "coverage": 0.5},
            "pre*post": {"bias": pytest.approx(0.1), "coverage": 0.75},
        },
    }


@pytest.mark.long
def test_an_estimate_is_recovered(noisy, selection):
    numbers, results = list(selection.terms), {}
    report = recover(
        noisy, selection.fitted, numbers, 2, 0, recall=lambda name, compute: results.setdefault(name, compute())
    )
    first, second = (result["estimate"] for result in results.values())
    for estimate in (first, second):
        np.testing.assert_allclose(estimate, selection.fitted.shared[numbers], rtol=0.05)
    assert (first != second).all()
    assert report["coverage"] >= 0.25
