"""Selection of terms: forwards by likelihood, then backwards, checked on animals that were not fitted."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from metarule.inference.problem import Fitted, Problem
from metarule.inference.recalling import Recall, compute_anew
from metarule.meta.levenberg import Point

__all__ = ["Selection", "Trial", "select"]

Step: TypeAlias = Literal["added", "removed", "exchanged"]

# Evaluations of each candidate, which are enough to tell which is best.
_STEPS = 12


class Trial(NamedTuple):
    """One change of the set of terms.

    Attributes:
        step: whether the term was `added`, `removed`, or `exchanged` for another one.
        term: the term, of an exchange the new one.
        log_likelihood: of the fitted animals after it.
        held_out: of the animals that are held out.
    """

    step: Step
    term: str
    log_likelihood: float
    held_out: float


class Selection(NamedTuple):
    """Selected terms.

    Attributes:
        terms: their numbers, in the order of the rule.
        fitted: the fit with these terms.
        trials: how they were found.
    """

    terms: tuple[int, ...]
    fitted: Fitted
    trials: tuple[Trial, ...]


def select(
    problem: Problem,
    start: Point,
    progress: Callable[[Trial], None] = lambda trial: None,
    recall: Recall = compute_anew,
) -> Selection:
    """Select terms: add the one with the most likely fit, as long as it is worth it; then remove and exchange terms.

    A term is worth it if the log-likelihood of the fitted animals rises by more than ½·ln n + ln m, for n observations
    and m candidates, and that of the animals that are held out rises, too. A term is exchanged for another one if
    the sum of both rises. Each candidate is fitted with all terms so far: a score test at θ = 0 would pick wrong terms,
    because weights start near 0.

    Args:
        problem: the recordings, and a rule with terms.
        start: point in which all coefficients are 0.
        progress: called with each change.
        recall: recalls what a stopped inference has computed.

    References:
        Chen, Chen 2008 (extended Bayesian information criterion); Guyon, Elisseeff 2003 (forward, backward); Miller
        2002 (exchange).
    """
    trials, terms, everything = list[Trial](), tuple[int, ...](), range(len(problem.terms))

    def accept(step: Step, number: int, fitted: Fitted) -> Fitted:
        trials.append(Trial(step, problem.terms[number], *_likelihoods(problem, fitted)))
        progress(trials[-1])
        return fitted

    numbers = count()

    def most_likely(point: Point, candidates: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], Fitted]:
        """Candidate under which the fitted animals are most likely, with its fit."""
        found = recall(f"selection-{next(numbers):04d}", lambda: _compare(problem, point, candidates))
        terms = candidates[int(found["candidate"])]
        return terms, _refitted(problem, Point(found["shared"], found["own"]), terms)

    fitted = most_likely(start, [()])[1]
    while others := [number for number in everything if number not in terms]:
        longer, more = most_likely(fitted.iterate.point, [(*terms, other) for other in others])
        if not _is_worth(problem, more, fitted, len(others)):
            break
        terms, fitted = longer, accept("added", longer[-1], more)
    while terms:
        shorter, fewer = most_likely(fitted.iterate.point, [_without(terms, number) for number in terms])
        if not _is_worth(problem, fitted, fewer, len(everything)):
            (removed,) = set(terms) - set(shorter)
            terms, fitted = shorter, accept("removed", removed, fewer)
            continue
        others = [number for number in everything if number not in terms]
        exchanges = [(*_without(terms, number), other) for number in terms for other in others]
        if not exchanges:
            break
        exchanged, other = most_likely(fitted.iterate.point, exchanges)
        if not sum(_likelihoods(problem, other)) > sum(_likelihoods(problem, fitted)):  # or it is not a number
            break
        terms, fitted = exchanged, accept("exchanged", exchanged[-1], other)
    return Selection(tuple(sorted(terms)), _refitted(problem, fitted.iterate.point, sorted(terms)), tuple(trials))


def _without(terms: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(term for term in terms if term != number)


def _compare(problem: Problem, point: Point, candidates: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Number of the set of terms under which the fitted animals are most likely, and where its fit has got to."""
    best, found, most = -np.inf, dict[str, Any](), max(len(problem.terms), 1)
    for begin in range(0, len(candidates), most):
        some = candidates[begin : begin + most]
        starts = [point._replace(shared=_only(problem, point.shared, terms)) for terms in some]
        fits = problem.fit_each(starts, [problem.directions(terms) for terms in some], steps=_STEPS, fits=most)
        for number, fitted in enumerate(fits, begin):
            score = np.nan_to_num(_likelihoods(problem, fitted)[0], nan=-np.inf)
            if not found or score > best:
                reached = fitted.iterate.point
                best, found = score, {"candidate": number, "shared": reached.shared, "own": reached.own}
    return found


def _only(problem: Problem, shared: Any, terms: Sequence[int]) -> Any:
    """Shared unknowns in which all coefficients but those of some terms are 0."""
    numbers = np.arange(problem.size)
    return np.where((numbers >= len(problem.terms)) | np.isin(numbers, terms), shared, 0.0)


def _refitted(problem: Problem, point: Point, terms: Sequence[int]) -> Fitted:
    """Fit from a point to its end, with the directions in the order of the terms."""
    return problem.fit_each([point], [problem.directions(terms)], fits=len(problem.terms))[0]


def _is_worth(problem: Problem, more: Fitted, fewer: Fitted, candidates: int) -> bool:
    """True if one more term is worth it."""
    (train, test), (train_before, test_before) = (_likelihoods(problem, one) for one in (more, fewer))
    observations = (problem.is_fitted @ np.asarray(more.iterate.curvature.observations)).sum()
    price = np.log(observations) / 2 + np.log(candidates)
    return bool(train - train_before > price and (problem.is_fitted.all() or test > test_before))


def _likelihoods(problem: Problem, fitted: Fitted) -> tuple[float, float]:
    """Log-likelihood of the animals that are fitted, and of those on which models are compared."""
    each: Any = fitted.log_likelihood
    return float(each[problem.is_fitted].sum()), float(each[problem.scored].sum())
