"""Uncertainty of coefficients: Laplace, bootstrap and profile-likelihood intervals."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from metarule.inference.problem import Fitted, Problem
from metarule.meta.levenberg import Reduced, reduce_own

__all__ = ["Ends", "bootstrap_intervals", "covariance", "fisher_matrix", "laplace_intervals", "profile_intervals"]

# 97.5th percentile of the normal distribution, and half of the 95th of χ² with one degree of freedom.
_NORMAL, _HALF_CHI_SQUARE = 1.959964, 1.920729
# Eigenvalues below this share of the largest one are rounding.
_ROUNDING = 1e-13
# Points of a profile on each side of the estimate, in multiples of its standard error.
_PROFILE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


class Ends(NamedTuple):
    """Ends of intervals, one each for some coefficients; infinite where data do not bound them.

    Attributes:
        low: lower ends.
        high: upper ends.
    """

    low: Float[np.ndarray, " coefficients"]
    high: Float[np.ndarray, " coefficients"]


def fisher_matrix(fitted: Fitted, weights: Any, variance: Any = None) -> Float[np.ndarray, "directions directions"]:
    """Fisher information on the directions of a fit, without what each animal has of its own.

    Args:
        fitted: the fit.
        weights: weight of each animal.
        variance: of the noise by kind; by default that of the fit.
    """
    used = np.asarray(weights) > 0  # animals that are held out may diverge
    return np.einsum("a,auv->uv", weights[used], np.asarray(_reduced(fitted, variance).hessian)[used])


def covariance(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Inverse of a Fisher matrix; directions without information have an infinite variance.

    Entries that such a direction touches are infinite on the diagonal, and meaningless elsewhere.
    """
    size = np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
    values, vectors = np.linalg.eigh(matrix / size[:, None] / size)
    is_empty = values <= _ROUNDING * max(values.max(initial=0.0), _ROUNDING)
    known = (vectors / np.where(is_empty, np.inf, values)) @ vectors.T
    touched = (vectors[:, is_empty] ** 2).sum(axis=1) > np.sqrt(_ROUNDING)
    return known / size[:, None] / size + np.diag(np.where(touched, np.inf, 0.0))


def laplace_intervals(problem: Problem, fitted: Fitted, numbers: list[int]) -> Ends:
    """Intervals estimate ± 1.96·√(F⁻¹) of coefficients, by their numbers; F is Fisher matrix and Gaussian prior."""
    matrix = fisher_matrix(fitted, problem.is_fitted) + _prior(problem, fitted)[1]
    deviation = np.sqrt(np.diag(covariance(matrix)))[: len(numbers)]
    estimate = fitted.shared[numbers]
    return Ends(estimate - _NORMAL * deviation, estimate + _NORMAL * deviation)


def bootstrap_intervals(problem: Problem, fitted: Fitted, numbers: list[int], draws: int, seed: int) -> Ends:
    """Percentile intervals of coefficients over draws of animals with replacement.

    Each draw moves θ by one Gauss–Newton step from the estimate, θ − (Σ nₐ·Hₐ)⁻¹·Σ nₐ·gₐ, which equals a fit up to the
    curvature of the likelihood; the sums include a Gaussian prior, once.

    References:
        Efron 1979; Davidson, MacKinnon 1999 (bootstrap by few Newton steps).
    """
    reduced, animals = _reduced(fitted, None), np.flatnonzero(problem.is_fitted)
    counts = np.random.default_rng(seed).multinomial(animals.size, np.full(animals.size, 1 / animals.size), draws)
    slope, prior = _prior(problem, fitted)
    gradients = counts @ np.asarray(reduced.gradient)[animals] + slope
    matrices = np.einsum("da,auv->duv", counts, np.asarray(reduced.hessian)[animals]) + prior
    size = np.sqrt(np.maximum(np.einsum("duu->du", matrices), np.finfo(float).tiny))
    scaled = matrices / size[:, :, None] / size[:, None, :]
    steps = np.einsum("duv,dv->du", np.linalg.pinv(scaled, rcond=_ROUNDING, hermitian=True), gradients / size) / size
    drawn = fitted.shared[numbers] - steps[:, : len(numbers)]
    return Ends(*np.quantile(drawn, (0.025, 0.975), axis=0))


def profile_intervals(problem: Problem, fitted: Fitted, numbers: list[int]) -> Ends:
    """Intervals of coefficients outside of which the best fit with that coefficient is too unlikely (likelihood ratio).

    The objective rises by 1.92 at the ends, which are interpolated between fits at some distances from the estimate.

    References:
        Venzon, Moolgavkar 1988.
    """
    laplace = laplace_intervals(problem, fitted, numbers)
    errors = (laplace.high - laplace.low) / (2 * _NORMAL)
    ends: list[list[float]] = [[], []]
    for place, number in enumerate(numbers):
        others = np.delete(fitted.directions, place, axis=0)
        for side, sign in enumerate((-1, 1)):
            if not np.isfinite(errors[place]):
                ends[side].append(sign * np.inf)
                continue
            starts = []
            for distance in _PROFILE:
                shared = fitted.shared.copy()
                shared[number] += sign * distance * errors[place]
                starts.append(fitted.iterate.point._replace(shared=jnp.asarray(shared)))
            fits = problem.fit_each(starts, [others] * len(starts), fits=len(_PROFILE), settled=False)
            rises = [float(one.iterate.objective - fitted.iterate.objective) for one in fits]
            distance = _crossing(np.array((0.0, *_PROFILE)), np.array((0.0, *rises)))
            ends[side].append(float(fitted.shared[number] + sign * distance * errors[place]))
    return Ends(np.array(ends[0]), np.array(ends[1]))


def _crossing(distances: Any, rises: Any) -> float:
    """Distance at which the objective has risen enough, as √rise is nearly linear; infinite if it never has."""
    roots, wanted = np.sqrt(np.maximum(rises, 0.0)), np.sqrt(_HALF_CHI_SQUARE)
    above = np.flatnonzero(roots > wanted)
    if not above.size:
        return np.inf
    end = above[0]
    share = (wanted - roots[end - 1]) / (roots[end] - roots[end - 1])
    return float(distances[end - 1] + share * (distances[end] - distances[end - 1]))


def _prior(problem: Problem, fitted: Fitted) -> tuple[Any, Any]:
    """Gradient and Hessian of the Gaussian prior, −ln p(θ), in the directions of a fit."""
    ridge = np.asarray(problem.settings.penalty.ridge)
    return fitted.directions @ (ridge * fitted.shared), fitted.directions * ridge @ fitted.directions.T


def _reduced(fitted: Fitted, variance: Any) -> Reduced:
    noise = fitted.variance if variance is None else variance
    return reduce_own(fitted.iterate.curvature, jnp.asarray(noise), len(fitted.directions))
