"""Selection of terms: forwards by likelihood, then backwards, checked on animals that were not fitted."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from metarule.inference.problem import Fitted, Problem
from metarule.meta.levenberg import Point

__all__ = ["Selection", "Trial", "select"]


class Trial(NamedTuple):
    """One change of the set of terms.

    Attributes:
        step: whether the term was `added` or `removed`.
        term: the term.
        log_likelihood: of the fitted animals after it.
        held_out: of the animals that are held out.
    """

    step: Literal["added", "removed"]
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


def select(problem: Problem, start: Point, progress: Callable[[Trial], None] = lambda trial: None) -> Selection:
    """Select terms: add the one with the most likely fit, as long as it is worth it, then remove those that are not.

    A term is worth it if the log-likelihood of the fitted animals rises by more than ½·ln n + ln m, for n observations
    and m candidates, and that of the animals that are held out rises, too. Each candidate is fitted with all terms so
    far: a score test at θ = 0 would pick wrong terms, because weights start near 0.

    Args:
        problem: the recordings, and a rule with terms.
        start: point in which all coefficients are 0.
        progress: called with each change.

    References:
        Chen, Chen 2008 (extended Bayesian information criterion); Guyon, Elisseeff 2003 (forward, backward).
    """
    trials = list[Trial]()

    def record(step: Literal["added", "removed"], number: int, fitted: Fitted) -> None:
        trials.append(Trial(step, problem.terms[number], *_likelihoods(problem, fitted)))
        progress(trials[-1])

    chosen: tuple[int, ...] = ()
    fitted = problem.fit_each([start], [problem.directions(())], fits=len(problem.terms))[0]
    while len(chosen) < len(problem.terms):
        others = [number for number in range(len(problem.terms)) if number not in chosen]
        number, better = _best(problem, fitted, [(*chosen, other) for other in others], others)
        if not _is_worth(problem, better, fitted, len(others)):
            break
        chosen, fitted = (*chosen, number), better
        record("added", number, fitted)
    while chosen:
        shorter = [tuple(one for one in chosen if one != number) for number in chosen]
        number, best = _best(problem, fitted, shorter, list(chosen))
        if _is_worth(problem, fitted, best, len(problem.terms)):
            break
        chosen, fitted = tuple(one for one in chosen if one != number), best
        record("removed", number, fitted)
    return Selection(tuple(sorted(chosen)), fitted, tuple(trials))


def _best(problem: Problem, before: Fitted, sets: list[tuple[int, ...]], changed: list[int]) -> tuple[int, Fitted]:
    """Most likely of the fits with some sets of terms, each of which differs in one term, and that term."""
    points = []
    for terms in sets:
        is_left_out = np.isin(np.arange(problem.size), np.setdiff1d(np.arange(len(problem.terms)), terms))
        points.append(before.iterate.point._replace(shared=np.where(is_left_out, 0.0, before.shared)))
    fits = problem.fit_each(points, [problem.directions(terms) for terms in sets], fits=len(problem.terms))
    scores = [_likelihoods(problem, one)[0] for one in fits]
    best = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
    return changed[best], fits[best]


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
