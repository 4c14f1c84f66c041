"""Identifiability: which directions of θ the recordings determine, and which they leave open."""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from metarule.inference.problem import Fitted, Problem
from metarule.inference.uncertainty import fisher_matrix
from metarule.recordings.likelihood import GAUSSIAN
from metarule.rules.terms import join_signed, typeset

__all__ = ["Identified", "identify"]

# A direction is determined if its standard deviation is below this share of the parameter scale.
_SHARE = 0.1
# Entries of a direction that are written, as a share of the largest one, and how many at most.
_WRITTEN, _MOST_WRITTEN = 0.2, 6
# Smallest noise, as a share of the standard deviation of the observations: recordings are never more exact.
_LEAST_NOISE = 1e-3


class Identified(NamedTuple):
    """Directions of θ that recordings determine.

    Attributes:
        directions: number of directions that are determined to a tenth of the parameter scale.
        of: number of all directions.
        loose: the others as equations, the loosest first.
        verdict: `identified` if all are, `not identified` if less than half of them are.
        spectrum: standard deviation of each direction in the parameter scale, ascending; infinite ones are None.
    """

    directions: int
    of: int
    loose: tuple[str, ...]
    verdict: Literal["identified", "partly", "not identified"]
    spectrum: tuple[float | None, ...]


def identify(problem: Problem, fitted: Fitted) -> Identified:
    """Directions of θ that the fitted animals determine, from the eigenvectors of the Fisher matrix.

    Args:
        problem: the recordings, and a rule with terms.
        fitted: a fit with all terms as directions, such as one of a single evaluation at the estimate.

    References:
        Gutenkunst et al. 2007 (loose directions of models).
    """
    kinds, tasks = problem.kinds, problem.learner.tasks
    floor = [(_LEAST_NOISE * tasks.deviations[kind]) ** 2 if kind in GAUSSIAN else 0.0 for kind in kinds]
    matrix = fisher_matrix(fitted, problem.is_fitted, np.maximum(fitted.variance, floor))
    terms = len(problem.terms)
    coefficients = _without_nuisance(matrix, terms)
    scale = problem.scale[:terms]
    values, vectors = np.linalg.eigh(coefficients * scale[:, None] * scale)
    with np.errstate(divide="ignore"):
        deviations = 1 / np.sqrt(np.maximum(values, 0.0))
    is_loose = deviations > _SHARE
    loose = tuple(_equation(problem.terms, vectors[:, number]) for number in np.flatnonzero(is_loose))
    count = int(terms - is_loose.sum())
    verdict: Any = "identified" if count == terms else "partly" if 2 * count >= terms else "not identified"
    spectrum = tuple(float(one) if np.isfinite(one) else None for one in deviations[::-1])
    return Identified(count, terms, loose, verdict, spectrum)


def _without_nuisance(matrix: Float[np.ndarray, "n n"], terms: int) -> Float[np.ndarray, "terms terms"]:
    """Information on the coefficients if the other shared unknowns follow them."""
    if len(matrix) == terms:
        return matrix
    inner = np.linalg.pinv(matrix[terms:, terms:], hermitian=True)
    return matrix[:terms, :terms] - matrix[:terms, terms:] @ inner @ matrix[terms:, :terms]


def _equation(terms: tuple[str, ...], direction: Float[np.ndarray, " terms"]) -> str:
    """Direction as an equation, its largest entries with the largest one as 1."""
    largest = np.argmax(np.abs(direction))
    shares = direction / direction[largest]
    order = np.argsort(-np.abs(shares), kind="stable").tolist()
    written = [number for number in order if abs(shares[number]) >= _WRITTEN][:_MOST_WRITTEN]

    def text(number: int) -> str:
        size = abs(round(float(shares[number]), 2))
        return typeset(terms[number]) if size == 1 else f"{size:g}·{typeset(terms[number])}"

    return join_signed((shares[number], text(number)) for number in written)
