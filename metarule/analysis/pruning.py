"""Removal of terms that a learned rule does not need.

Each coefficient is a term, also if paths or projections have their own θ. A pass first evaluates the rule without
each single term. It then tries to remove one term after another, in descending order of these scores (equal scores:
smaller coefficient, in its parameter scale, first). A removal is kept if

    mean score over training tasks ≥ that of the full rule − tolerance,

so that losses do not add up over removals. Passes repeat until one removes nothing, because a term may become
unnecessary once another is removed. n terms take 2n evaluations, and two more for each term left after a pass.

Only training tasks decide. One draw of lifetimes ranks and another decides, so that luck in the first does not carry
over. Held-out tasks only measure the result. With few training tasks, such as eight Boolean functions, the shorter
rule may be good only on these.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from metarule.analysis.ablation import (
    Coefficients,
    coefficients_of,
    scores_by_task,
    term_names,
    with_coefficients,
    without_term,
)
from metarule.lifetime.learner import Lifetime
from metarule.types import PRNGKey, Split, Theta

__all__ = ["Pruned", "Trial", "prune"]

Outcome = Literal["ranked", "removed", "kept"]


class Trial(NamedTuple):
    """One evaluation of a rule without a term.

    Attributes:
        term: the term, after its path or projection if each has its own θ.
        outcome: `ranked` if only this term was left out, to find the order of removals; otherwise the decision on the
            term, `removed` or `kept`.
        score: mean score on training tasks without the term, and unless `ranked` without those removed before.
    """

    term: str
    outcome: Outcome
    score: float


class Pruned(NamedTuple):
    """A shorter rule and its scores.

    Attributes:
        theta: θ in which the coefficient of each removed term is 0.
        removed: removed terms, in the order of removal.
        before: score of the full rule on each held-out task [tasks].
        after: score of the shorter rule on the same tasks [tasks].
        training_tasks: number of training tasks that decided.
        trials: every evaluation, in order.
    """

    theta: Theta
    removed: tuple[str, ...]
    before: Float[np.ndarray, " tasks"]
    after: Float[np.ndarray, " tasks"]
    training_tasks: int
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
    """Remove terms as long as the score on training tasks stays within a tolerance of that of the full rule.

    Args:
        lifetime: the learner; its rule is a polynomial, or a user's own rule.
        theta: θ.
        split: training tasks and held-out tasks.
        key: decides the three draws of lifetimes; within one, all candidates get the same tasks, orders and initial
            weights.
        lifetimes: lifetimes of each draw.
        tolerance: allowed decrease of the score on training tasks.
        progress: called with each trial.

    Returns:
        The shorter rule. Frozen terms and decays of traces are unchanged.

    Raises:
        ConfigError: the rule has no terms.

    References:
        Backward elimination: Guyon, Elisseeff 2003, "An Introduction to Variable and Feature Selection".
    """
    rank_key, decision_key, report_key = jax.random.split(key, 3)
    names, full = term_names(lifetime, theta), coefficients_of(lifetime, theta)
    trials: list[Trial] = []

    def scores(coefficients: Coefficients, pool: Any, key: PRNGKey) -> Float[np.ndarray, " tasks"]:
        return scores_by_task(lifetime, with_coefficients(lifetime, theta, coefficients), pool, key, lifetimes)

    def record(number: int, outcome: Outcome, score: float) -> None:
        trials.append(Trial(names[number], outcome, score))
        progress(trials[-1])

    full_scores = scores(full, split.train, decision_key)
    coefficients = _shortened(
        full,
        np.abs(full / coefficients_of(lifetime, lifetime.theta_scale())).ravel(),
        full_scores.mean() - tolerance,
        rank=lambda coefficients: float(scores(coefficients, split.train, rank_key).mean()),
        decide=lambda coefficients: float(scores(coefficients, split.train, decision_key).mean()),
        record=record,
    )
    removed = tuple(trial.term for trial in trials if trial.outcome == "removed")
    before, after = (scores(one, split.test, report_key) for one in (full, coefficients))
    return Pruned(
        with_coefficients(lifetime, theta, coefficients), removed, before, after, full_scores.size, tuple(trials)
    )


def _shortened(
    coefficients: Coefficients,
    sizes: Float[np.ndarray, " coefficients"],
    lowest: float,
    rank: Callable[[Coefficients], float],
    decide: Callable[[Coefficients], float],
    record: Callable[[int, Outcome, float], None],
) -> Coefficients:
    """Repeat passes until one removes nothing; `lowest` is the lowest score at which a removal is kept."""
    shortened = True
    while shortened:
        order, shortened = {}, False
        for number in map(int, np.flatnonzero(coefficients)):
            score = rank(without_term(coefficients, number))
            record(number, "ranked", score)
            order[number] = (-score if np.isfinite(score) else np.inf, sizes[number])
        for number in sorted(order, key=order.__getitem__):
            shorter = without_term(coefficients, number)
            score = decide(shorter)
            is_removed = score >= lowest  # NaN removes nothing
            record(number, "removed" if is_removed else "kept", score)
            if is_removed:
                coefficients, shortened = shorter, True
    return coefficients
