"""From a learned rule to a shorter one that is worth the same."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from metarule.analysis.ablation import coefficients_of, names_of, scores_by_task, with_coefficients, without
from metarule.lifetime.learner import Lifetime
from metarule.types import PRNGKey, Split, Theta

__all__ = ["Pruned", "Trial", "prune"]


class Trial(NamedTuple):
    """One look at a rule without a term.

    Attributes:
        term: the term, with its path or projection where each has a θ of its own.
        outcome: `alone` where this term alone was out, to find the order in which terms are tried; otherwise what
            became of the term, `removed` or `kept`.
        score: mean score of the rule without it on training tasks, of lifetimes of two draws; where it was not `alone`,
            without the terms that were removed before, too.
    """

    term: str
    outcome: Literal["alone", "removed", "kept"]
    score: float


class Pruned(NamedTuple):
    """A shorter rule, and what it is worth.

    Attributes:
        theta: θ in which the coefficient of each removed term is 0.
        removed: the removed terms, in the order in which they went.
        before: score of the full rule on each held-out task [tasks].
        after: score of the shorter one on the same tasks, which decided nothing [tasks].
        decided_on: how many training tasks decided.
        trials: every look, in order.
    """

    theta: Theta
    removed: tuple[str, ...]
    before: Float[np.ndarray, " tasks"]
    after: Float[np.ndarray, " tasks"]
    decided_on: int
    trials: tuple[Trial, ...]


def prune(
    lifetime: Lifetime,
    theta: Theta,
    split: Split,
    key: PRNGKey,
    lifetimes: int,
    tolerance: float,
    progress: Callable[[Trial], None] = lambda trial: None,
) -> Pruned:
    """Remove terms as long as the score on training tasks stays within a tolerance of the full rule's.

    Each coefficient is a term of its own, also where paths or projections have a θ each. A pass first takes out every
    term alone, and then tries to remove one after another, that which was missed least first (of
    terms that were missed alike the one whose coefficient is smaller in its unit). A removal is kept where

        mean score over training tasks ≥ that of the full rule − tolerance,

    so that losses do not add up from one removal to the next. Passes go on until one removes nothing: a term that was
    needed beside another may be idle without it. With n terms that takes 2n evaluations and two more for each term
    that is left after a pass, not n².

    Training tasks alone decide, the order by one draw of lifetimes and each removal by another, with other weights and
    orders, so that luck in the first cannot flatter the second. Held-out tasks only judge what came of it. Where there
    are few training tasks, as with the eight functions of two inputs, the shorter rule may be good on these alone.

    Args:
        lifetime: who lives; its rule is a polynomial.
        theta: θ.
        split: training tasks and held-out tasks.
        key: decides the three draws of lifetimes; within one all candidates live through the same tasks, orders and
            initial weights.
        lifetimes: lives in each of them.
        tolerance: how far the score on training tasks may fall.
        progress: told of each look.

    Returns:
        The shorter rule. Frozen terms and decays of traces are as they were.

    Raises:
        ConfigError: a rule that has no terms.

    References:
        Backward elimination: Guyon, Elisseeff 2003, "An Introduction to Variable and Feature Selection".
    """
    rank_key, keep_key, report_key = jax.random.split(key, 3)
    names, full = names_of(lifetime, theta), coefficients_of(theta)
    sizes = np.abs(full / coefficients_of(lifetime.theta_scale())).ravel()
    trials: list[Trial] = []

    def scores(
        coefficients: Float[Array, "*theta_groups terms"], pool: Any, key: PRNGKey
    ) -> Float[np.ndarray, " tasks"]:
        return scores_by_task(lifetime, with_coefficients(theta, coefficients), pool, key, lifetimes)

    def note(number: int, outcome: Literal["alone", "removed", "kept"], score: float) -> None:
        trials.append(Trial(names[number], outcome, score))
        progress(trials[-1])

    def by_use(coefficients: Float[Array, "*theta_groups terms"]) -> list[int]:
        """Coefficients that are not 0, that of the term which is missed least first."""
        places = {}
        for number in map(int, np.flatnonzero(coefficients)):
            alone = float(scores(without(coefficients, number), split.train, rank_key).mean())
            note(number, "alone", alone)
            places[number] = (-alone if np.isfinite(alone) else np.inf, sizes[number])
        return sorted(places, key=places.__getitem__)

    whole = scores(full, split.train, keep_key)
    least = whole.mean() - tolerance

    def thinned(coefficients: Float[Array, "*theta_groups terms"]) -> Float[Array, "*theta_groups terms"]:
        """What one pass leaves."""
        for number in by_use(coefficients):
            shorter = without(coefficients, number)
            score = float(scores(shorter, split.train, keep_key).mean())
            keep = not score >= least  # a score that is not a number allows nothing
            note(number, "kept" if keep else "removed", score)
            coefficients = coefficients if keep else shorter
        return coefficients

    coefficients, shorter = full, thinned(full)
    while np.count_nonzero(shorter) < np.count_nonzero(coefficients):
        coefficients, shorter = shorter, thinned(shorter)
    return Pruned(
        theta=with_coefficients(theta, coefficients),
        removed=tuple(trial.term for trial in trials if trial.outcome == "removed"),
        before=scores(full, split.test, report_key),
        after=scores(coefficients, split.test, report_key),
        decided_on=whole.size,
        trials=tuple(trials),
    )
