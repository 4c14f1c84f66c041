import jax.numpy as jnp
import numpy as np
import pytest
from recorded import learner_on
from two_terms import recordings

from metarule import Polynomial
from metarule.inference import make_problem
from metarule.inference.identifiability import _equation, _without_nuisance, identify
from metarule.meta import GaussNewton


def test_all_directions_are_identified(noisy, everything):
    found = identify(noisy, everything)
    assert (found.directions, found.of, found.loose, found.verdict) == (8, 8, (), "identified")
    assert found.spectrum == tuple(sorted(found.spectrum))
    assert 0 < found.spectrum[0] < found.spectrum[-1] < 0.1


def test_with_more_noise_fewer_directions_are_determined(noisy, everything):
    precise = identify(noisy, everything)
    noise = everything.variance * (0.1 / precise.spectrum[2]) ** 2
    found = identify(noisy, everything._replace(variance=1.001 * noise))
    assert (found.directions, len(found.loose), found.verdict) == (2, 6, "not identified")
    assert identify(noisy, everything._replace(variance=0.999 * noise)).directions == 3
    np.testing.assert_allclose(np.array(found.spectrum) / precise.spectrum, 0.1001 / precise.spectrum[2], rtol=1e-3)


def test_recordings_are_never_taken_as_exact(noisy, everything):
    perfect, tiny = (identify(noisy, everything._replace(variance=np.array([one]))) for one in (0.0, 1e-30))
    assert perfect == tiny
    assert perfect.spectrum[0] > 0


@pytest.mark.long
def test_terms_that_are_equal_in_the_data_are_named(tmp_path):
    animals = [arrays | {"inputs": (arrays["inputs"] > 0).astype(float)} for arrays in recordings(0.1)]
    rule = Polynomial(terms=("pre", "pre*post", "pre^2"), hebbian_scale=10.0)
    learner = learner_on(tmp_path, animals, rule)
    problem = make_problem(learner, learner.tasks.split(0), GaussNewton())
    fitted = problem.fit(problem.start(jnp.zeros(3)), np.eye(3), steps=1)
    found = identify(problem, fitted)
    assert (found.directions, found.of, found.verdict) == (2, 3, "partly")
    assert found.loose in (("pre² − pre",), ("pre − pre²",))
    assert found.spectrum[-1] is None or found.spectrum[-1] > 1e4


@pytest.mark.parametrize(
    ("direction", "equation"),
    [
        ([-0.5, 0.5, 0.0], "pre − pre·post"),
        ([0.1, -0.9, 0.4], "pre·post − 0.44·post²·weight"),
        ([0.0, 0.0, -1.0], "post²·weight"),
    ],
)
def test_a_direction_is_written_by_its_largest_entries(direction, equation):
    assert _equation(("pre", "pre*post", "post^2*weight"), np.array(direction)) == equation


def test_unknowns_that_follow_the_coefficients_take_information_from_them():
    jacobian = np.random.default_rng(0).normal(size=(20, 5))
    matrix = jacobian.T @ jacobian
    left = _without_nuisance(matrix, 3)
    np.testing.assert_allclose(np.linalg.inv(left), np.linalg.inv(matrix)[:3, :3], rtol=1e-9)
    np.testing.assert_array_equal(_without_nuisance(matrix, 5), matrix)
    matrix[3:], matrix[:, 3:] = 0, 0
    np.testing.assert_array_equal(_without_nuisance(matrix, 3), matrix[:3, :3])
