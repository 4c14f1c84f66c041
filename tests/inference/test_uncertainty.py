import math

import numpy as np
import pytest

from metarule.inference.problem import Fitted, Problem
from metarule.inference.uncertainty import (
    bootstrap_intervals,
    covariance,
    fisher_matrix,
    laplace_intervals,
    profile_intervals,
)
from metarule.meta.curvature import Curvature
from metarule.meta.fits import Settings
from metarule.meta.levenberg import Iterate, Penalty, Point

NORMAL = 1.959964


def test_the_covariance_is_the_inverse_hessian_of_the_objective(noisy, selection):
    fitted, numbers, step = selection.fitted, list(selection.terms), 1e-4
    point, steps = fitted.iterate.point, [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)]
    starts = []
    for one in steps:
        shared = fitted.shared.copy()
        shared[numbers] += step * np.array(one)
        starts.append(point._replace(shared=shared))
    fits = noisy.fit_each(starts, [noisy.directions(numbers)] * len(starts), steps=1, fits=8)
    value = {one: float(fit.iterate.objective) for one, fit in zip(steps, fits, strict=True)}
    first = value[1, 0] - 2 * value[0, 0] + value[-1, 0]
    second = value[0, 1] - 2 * value[0, 0] + value[0, -1]
    mixed = (value[1, 1] + value[-1, -1] - 2 * value[0, 0] - first - second) / 2
    hessian = np.array([[first, mixed], [mixed, second]]) / step**2
    # The objective has the most likely variance, and intervals have the degrees of freedom, of 180 observations.
    found = covariance(fisher_matrix(fitted, noisy.is_fitted)) * 178 / 180
    np.testing.assert_allclose(found, np.linalg.inv(hessian), rtol=0.05)


def test_the_covariance_of_a_badly_scaled_matrix_is_its_inverse():
    jacobian = np.random.default_rng(0).normal(size=(20, 5)) * 10.0 ** np.arange(-8, 12, 4)
    matrix = jacobian.T @ jacobian
    np.testing.assert_allclose(covariance(matrix) @ matrix, np.eye(5), atol=1e-9 * np.abs(matrix).max())
    scale = np.sqrt(np.diag(matrix))
    inverse = np.linalg.inv(matrix / scale[:, None] / scale)
    np.testing.assert_allclose(covariance(matrix) * scale[:, None] * scale, inverse, rtol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "variances"),
    [
        ([[4.0, 0.0], [0.0, 0.0]], [0.25, math.inf]),
        ([[1.0, 1.0], [1.0, 1.0]], [math.inf, math.inf]),
        ([[2.0, 0.0, 0.0], [0.0, 1.0, -3.0], [0.0, -3.0, 9.0]], [0.5, math.inf, math.inf]),
        ([[0.0]], [math.inf]),
    ],
)
def test_directions_without_information_have_no_bounds(matrix, variances):
    np.testing.assert_allclose(np.diag(covariance(np.array(matrix))), variances)


class Quadratic(Problem):
    """A problem whose objective is ½·(θ − θ̂)ᵀ·H·(θ − θ̂), with θ̂ and H in place of the learner."""

    def fit_each(self, starts, directions, steps=None, weights=None, l1=False, fits=0, settled=True):
        return [self.fit_in(start, moving) for start, moving in zip(starts, directions, strict=True)]

    def fit_in(self, start, moving):
        best, hessian = self.learner
        away = np.asarray(start.shared) - best
        away = away - moving.T @ np.linalg.pinv(moving @ hessian @ moving.T) @ moving @ hessian @ away
        return fit_at(Point(best + away, start.own), moving, away @ hessian @ away / 2)


def fit_at(point, directions, objective, gradient=None, hessian=None, animals=6):
    size = len(directions)
    gradient = np.zeros((animals, 1, size)) if gradient is None else gradient
    hessian = np.zeros((animals, 1, size, size)) if hessian is None else hessian
    curvature = Curvature(np.ones((animals, 1)), np.ones((animals, 1)), gradient, hessian)
    iterate = Iterate(point, curvature, objective, *[None] * 4)
    return Fitted(iterate, directions, np.ones(1), np.zeros(animals), size)


def linear(animals=6, size=3):
    """A linear regression of each animal, with noise of 1: problem, fit, inputs and observations."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(animals, 10, size))
    observed = inputs @ np.array([1.0, -2.0, 0.5]) + rng.normal(size=(animals, 10))
    best = np.linalg.lstsq(inputs.reshape(-1, size), observed.ravel())[0]
    each = np.einsum("anu,anv->auv", inputs, inputs)
    gradient = np.einsum("anu,an->au", inputs, inputs @ best - observed)
    settings = Settings(Penalty(np.zeros(size), np.zeros(size)), 0.0, 0.0, 0)
    problem = Quadratic((best, each.sum(axis=0)), None, np.ones(animals, bool), ("a", "b", "c"), None, settings, size)
    point = Point(best, np.zeros((animals, 0)))
    return problem, fit_at(point, np.eye(size), 0.0, gradient[:, None], each[:, None]), inputs, observed


def test_laplace_intervals_are_those_of_linear_regression():
    problem, fitted, inputs, _ = linear()
    rows = inputs.reshape(-1, 3)
    errors = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows)))
    low, high = laplace_intervals(problem, fitted, [0, 1, 2])
    np.testing.assert_allclose(low, fitted.shared - NORMAL * errors, rtol=1e-6)
    np.testing.assert_allclose(high, fitted.shared + NORMAL * errors, rtol=1e-6)


def test_a_gaussian_prior_counts_as_information():
    problem, fitted, inputs, _ = linear()
    rows, ridge = inputs.reshape(-1, 3), np.array([0.0, 7.0, 100.0])
    settings = problem.settings._replace(penalty=Penalty(ridge, np.zeros(3)))
    errors = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows + np.diag(ridge))))
    ends = laplace_intervals(problem._replace(settings=settings), fitted, [0, 1, 2])
    np.testing.assert_allclose(ends.high - ends.low, 2 * NORMAL * errors, rtol=1e-6)


def test_animals_that_are_held_out_are_no_information():
    problem, fitted, inputs, _ = linear()
    fewer = problem._replace(is_fitted=np.arange(6) < 4)
    rows = inputs[:4].reshape(-1, 3)
    np.testing.assert_allclose(fisher_matrix(fitted, fewer.is_fitted), rows.T @ rows)
    drawn = bootstrap_intervals(fewer, fitted, [0, 1, 2], draws=50, seed=0)
    curvature = fitted.iterate.curvature
    cut = curvature._replace(gradient=curvature.gradient[:4], hessian=curvature.hessian[:4])
    only = fitted._replace(iterate=fitted.iterate._replace(curvature=cut))
    alone = bootstrap_intervals(problem._replace(is_fitted=np.ones(4, bool)), only, [0, 1, 2], draws=50, seed=0)
    np.testing.assert_array_equal(drawn, alone)


def test_animals_that_are_held_out_may_diverge():
    problem, fitted, inputs, _ = linear()
    curvature, is_fitted = fitted.iterate.curvature, np.arange(6) < 5
    curvature.hessian[5] = np.nan
    rows = inputs[:5].reshape(-1, 3)
    np.testing.assert_allclose(fisher_matrix(fitted, is_fitted), rows.T @ rows)
    assert np.isfinite(laplace_intervals(problem._replace(is_fitted=is_fitted), fitted, [0, 1, 2])).all()


def test_one_newton_step_of_the_bootstrap_is_a_refit_of_a_linear_model():
    problem, fitted, inputs, observed = linear()
    ends = bootstrap_intervals(problem, fitted, [0, 1, 2], draws=200, seed=3)
    refits = []
    for counts in np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 200):
        root = np.sqrt(counts)[:, None]
        refits.append(np.linalg.lstsq((root[..., None] * inputs).reshape(-1, 3), (root * observed).ravel())[0])
    np.testing.assert_allclose(ends, np.quantile(refits, [0.025, 0.975], axis=0), rtol=1e-9)


def test_draws_of_the_bootstrap_have_the_prior_of_the_fit():
    problem, fitted, inputs, observed = linear()
    ridge, rows = np.array([0.0, 7.0, 100.0]), inputs.reshape(-1, 3)
    best = np.linalg.solve(rows.T @ rows + np.diag(ridge), rows.T @ observed.ravel())
    gradient = np.einsum("anu,an->au", inputs, inputs @ best - observed)[:, None]
    fitted = fit_at(Point(best, np.zeros((6, 0))), np.eye(3), 0.0, gradient, fitted.iterate.curvature.hessian)
    problem = problem._replace(settings=problem.settings._replace(penalty=Penalty(ridge, np.zeros(3))))
    ends, refits = bootstrap_intervals(problem, fitted, [0, 1, 2], draws=200, seed=3), []
    for counts in np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), 200):
        each = np.repeat(counts, 10)[:, None] * rows
        refits.append(np.linalg.solve(each.T @ rows + np.diag(ridge), each.T @ observed.ravel()))
    np.testing.assert_allclose(ends, np.quantile(refits, [0.025, 0.975], axis=0), rtol=1e-9)


def test_the_profile_of_a_quadratic_objective_has_the_ends_of_laplace():
    problem, fitted, *_ = linear()
    laplace = laplace_intervals(problem, fitted, [0, 1, 2])
    np.testing.assert_allclose(profile_intervals(problem, fitted, [0, 1, 2]), laplace, rtol=1e-6)


def test_a_profile_has_no_end_where_the_objective_does_not_rise():
    problem, fitted, *_ = linear()
    flat = problem._replace(learner=(problem.learner[0], 1e-3 * problem.learner[1]))
    assert np.isinf(profile_intervals(flat, fitted, [0, 1, 2])).all()
    empty = fitted.iterate.curvature._replace(hessian=0 * fitted.iterate.curvature.hessian)
    unknown = fitted._replace(iterate=fitted.iterate._replace(curvature=empty))
    for method in (laplace_intervals, profile_intervals):
        assert method(problem, unknown, [0]) == (-math.inf, math.inf)


@pytest.mark.long
def test_all_intervals_agree_where_data_are_many(noisy, selection):
    numbers = list(selection.terms)
    laplace = laplace_intervals(noisy, selection.fitted, numbers)
    width = laplace.high - laplace.low
    np.testing.assert_allclose(profile_intervals(noisy, selection.fitted, numbers), laplace, atol=0.1 * width.max())
    low, high = bootstrap_intervals(noisy, selection.fitted, numbers, draws=1000, seed=0)
    assert ((high - low > 0.2 * width) & (high - low < 2 * width)).all()
