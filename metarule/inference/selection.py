"""Selection of terms: forwards by likelihood, then backwards, checked on animals that were not fitted."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from metarule.inference.problem import Fitted, Problem
from metarule.inference.recalling import Recall, compute_anew
from metarule.inference.uncertainty import laplace_intervals
from metarule.meta.levenberg import Point

__all__ = ["Selection", "Trial", "select"]

Step: TypeAlias = Literal["added", "removed", "exchanged", "restarted"]

# Evaluations of each candidate, which are enough to tell which is best.
_STEPS = 12
# Most terms in the sets of largest estimates.
_LARGEST = 12


class Trial(NamedTuple):
    """One change of the set of terms.

    Attributes:
        step: whether the term was `added`, `removed`, or `exchanged` for another one, or the search `restarted`.
        term: the term, of an exchange the new one, and of a restart all terms.
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
    whole: Fitted | None = None,
    known: Sequence[tuple[int, ...]] = (),
) -> Selection:
    """Select terms: add the one with the most likely fit, as long as it is worth it; then remove and exchange terms.

    A term is worth it if the log-likelihood of the fitted animals rises by more than ½·ln n + ln m, for n observations
    and m candidates. It stays if that of the animals that are held out rises, too. A term is exchanged for another one
    if the sum of both rises. Each candidate is fitted with all terms so far: a score test at θ = 0 would pick wrong
    terms, because weights start near 0. Terms that are useful together only are not found in this way. So the search is
    also started from the terms of known rules, and from the terms of largest |estimate|/error in the fit of all terms,
    and the better end counts.

    Args:
        problem: the recordings, and a rule with terms.
        start: point in which all coefficients are 0.
        progress: called with each change.
        recall: recalls what a stopped inference has computed.
        whole: fit of all terms.
        known: sets of terms of known rules.

    References:
        Chen, Chen 2008 (extended Bayesian information criterion); Guyon, Elisseeff 2003 (forward, backward); Miller
        2002 (exchange).
    """
    search = _Search(problem, progress, recall)
    state = search.refined(search.grown(search.best(start, [()])))
    if whole is not None and (sets := {*known, *_largest(problem, whole)} - {()}):
        other = search.best(whole.iterate.point, sorted(sets))
        if search.criterion(other) > search.criterion(state):
            search.record("restarted", other.terms, other.fitted)
            state = search.refined(search.grown(other))
    terms = tuple(sorted(state.terms))
    return Selection(terms, _refitted(problem, state.fitted.iterate.point, terms), tuple(search.trials))


class _State(NamedTuple):
    """A set of terms, in the order in which they were found, and its fit."""

    terms: tuple[int, ...]
    fitted: Fitted


class _Search:
    """Search for terms, with the changes that it has made."""

    def __init__(self, problem: Problem, progress: Callable[[Trial], None], recall: Recall) -> None:
        self._problem, self._progress, self._recall = problem, progress, recall
        self._numbers, self._all = count(), range(len(problem.terms))
        self.trials = list[Trial]()

    def record(self, step: Step, terms: Sequence[int], fitted: Fitted) -> None:
        """Record a change."""
        names = " + ".join(self._problem.terms[number] for number in terms)
        self.trials.append(Trial(step, names, *_likelihoods(self._problem, fitted)))
        self._progress(self.trials[-1])

    def best(self, point: Point, candidates: Sequence[tuple[int, ...]]) -> _State:
        """Candidate with the best criterion, and its fit from a point."""
        name = f"selection-{next(self._numbers):04d}"
        found = self._recall(name, lambda: _compare(self._problem, point, candidates))
        terms = candidates[int(found["candidate"])]
        return _State(terms, _refitted(self._problem, Point(found["shared"], found["own"]), terms))

    def criterion(self, state: _State) -> float:
        """Log-likelihood of the fitted animals minus the price of the terms."""
        return _likelihoods(self._problem, state.fitted)[0] - _price(self._problem, state.fitted) * len(state.terms)

    def grown(self, state: _State) -> _State:
        """Add terms as long as they are worth it."""
        while others := [number for number in self._all if number not in state.terms]:
            longer = self.best(state.fitted.iterate.point, [(*state.terms, other) for other in others])
            # Held-out animals judge terms in the end: few of them may not gain by the first term of several.
            if not _is_worth(self._problem, longer.fitted, state.fitted):
                break
            state = longer
            self.record("added", state.terms[-1:], state.fitted)
        return state

    def refined(self, state: _State) -> _State:
        """Remove terms that are not worth it, and exchange terms for better ones."""
        while state.terms:
            shorter = self.best(state.fitted.iterate.point, [_without(state.terms, number) for number in state.terms])
            is_worth = _is_worth(self._problem, state.fitted, shorter.fitted)
            if not (is_worth and _is_confirmed(self._problem, state.fitted, shorter.fitted)):
                self.record("removed", sorted(set(state.terms) - set(shorter.terms)), shorter.fitted)
                state = shorter
                continue
            others = [number for number in self._all if number not in state.terms]
            exchanges = [(*_without(state.terms, number), other) for number in state.terms for other in others]
            if not exchanges:
                break
            other = self.best(state.fitted.iterate.point, exchanges)
            new, old = (sum(_likelihoods(self._problem, one.fitted)) for one in (other, state))
            if not new > old:
                break
            state = other
            self.record("exchanged", state.terms[-1:], state.fitted)
        return state


def _largest(problem: Problem, whole: Fitted) -> list[tuple[int, ...]]:
    """Sets of the terms whose estimates are largest, compared with their errors."""
    numbers = list(range(len(problem.terms)))
    ends = laplace_intervals(problem, whole, numbers)
    with np.errstate(invalid="ignore"):
        ratios = np.nan_to_num(np.abs(whole.shared[numbers]) / (ends.high - ends.low), nan=0.0)
    order = np.argsort(-ratios, kind="stable").tolist()
    return [tuple(sorted(order[:size])) for size in range(1, min(_LARGEST, len(order)) + 1)]


def _without(terms: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(term for term in terms if term != number)


def _compare(problem: Problem, point: Point, candidates: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    """Number of the set of terms with the best criterion, and where its fit has got to."""
    best, found, most = -np.inf, dict[str, Any](), max(len(problem.terms), 1)
    for begin in range(0, len(candidates), most):
        some = candidates[begin : begin + most]
        starts = [point._replace(shared=_only(problem, point.shared, terms)) for terms in some]
        fits = problem.fit_each(
            starts, [problem.directions(terms) for terms in some], steps=_STEPS, fits=most, settled=False
        )
        for number, fitted in enumerate(fits, begin):
            score = np.nan_to_num(_likelihoods(problem, fitted)[0], nan=-np.inf)
            score -= _price(problem, fitted) * len(candidates[number])
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


def _price(problem: Problem, fitted: Fitted) -> float:
    """Rise of the log-likelihood that a term must bring."""
    observations = (problem.is_fitted @ np.asarray(fitted.iterate.curvature.observations)).sum()
    return float(np.log(observations) / 2 + np.log(len(problem.terms)))


def _is_worth(problem: Problem, more: Fitted, fewer: Fitted) -> bool:
    """True if the fitted animals say that one more term is worth it."""
    gain = _likelihoods(problem, more)[0] - _likelihoods(problem, fewer)[0]
    return bool(gain > _price(problem, more))


def _is_confirmed(problem: Problem, more: Fitted, fewer: Fitted) -> bool:
    """True if the animals that are held out, if any, say so, too."""
    return bool(problem.is_fitted.all() or _likelihoods(problem, more)[1] > _likelihoods(problem, fewer)[1])


def _likelihoods(problem: Problem, fitted: Fitted) -> tuple[float, float]:
    """Log-likelihood of the animals that are fitted, and of those on which models are compared."""
    each: Any = fitted.log_likelihood
    return float(each[problem.is_fitted].sum()), float(each[problem.scored].sum())
