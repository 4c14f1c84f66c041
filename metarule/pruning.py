"""From a learned rule to a shorter one that is worth the same."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from metarule.config import ConfigError
from metarule.evaluation import final_metrics
from metarule.lifetime import Lifetime
from metarule.rules.polynomial import Polynomial
from metarule.types import PRNGKey, Split, Theta

__all__ = ["Pruned", "Trial", "prune", "terms"]


class Trial(NamedTuple):
    """One look at a rule without a term.

    Attributes:
        term: the term, with its path or projection where each has a θ of its own.
        outcome: `alone` where this term alone was out, to find the order in which terms are tried; otherwise what
            became of the term, `removed` or `kept`.
        score: mean score of the rule without it, `alone` on training tasks, otherwise on held-out tasks and without
            the terms that were removed before.
    """

    term: str
    outcome: Literal["alone", "removed", "kept"]
    score: float


class Pruned(NamedTuple):
    """A shorter rule, and what it is worth.

    Attributes:
        theta: θ in which the coefficient of each removed term is 0.
        removed: the removed terms, in the order in which they went.
        before: score of each life under the full rule [lifetimes].
        after: score of the same lives under the shorter one [lifetimes]; these lives decided nothing, though others on
            the same held-out tasks did.
        trials: every look, in order.
    """

    theta: Theta
    removed: tuple[str, ...]
    before: Float[np.ndarray, " lifetimes"]
    after: Float[np.ndarray, " lifetimes"]
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
    """Remove terms as long as the held-out score stays within a tolerance of the full rule's.

    Each coefficient is a term of its own, also where paths or projections have a θ each. A pass first takes out every
    term alone, on training tasks, and then tries to remove one after another, that which was missed least first (of
    terms that were missed alike the one whose coefficient is smaller in its unit). A removal is kept where

        mean score on held-out lives ≥ that of the full rule − tolerance,

    so that losses do not add up from one removal to the next. Passes go on until one removes nothing: a term that was
    needed beside another may be idle without it. With n terms that takes 2n evaluations and two more for each term
    that is left after a pass, not n².

    The order is decided on training tasks, each removal on one draw of held-out lives, and the scores that are
    returned are those of another draw: other weights and orders, so that luck in the second cannot flatter the third.
    Where the held-out tasks are few, both draws meet them all.

    Args:
        lifetime: who lives; its rule is a polynomial.
        theta: θ.
        split: training tasks and held-out tasks.
        key: decides the three draws of lives; within one all candidates live through the same tasks, orders and
            initial weights.
        lifetimes: lives in each of them.
        tolerance: how far the score may fall.
        progress: told of each look.

    Returns:
        The shorter rule. Frozen terms and decays of traces are as they were.

    Raises:
        ConfigError: a rule that has no terms.

    References:
        Backward elimination: Guyon, Elisseeff 2003, "An Introduction to Variable and Feature Selection".
    """
    rank_key, keep_key, report_key = jax.random.split(key, 3)
    names, full = _names(lifetime, theta), _coefficients(theta)
    sizes = np.abs(full / _coefficients(lifetime.units())).ravel()
    trials: list[Trial] = []

    def scores(coefficients: Float[Array, "*owners terms"], pool: Any, key: PRNGKey) -> Float[np.ndarray, " lifetimes"]:
        seen = final_metrics(lifetime, _with(theta, coefficients), pool, key, lifetimes)
        return np.asarray(seen[lifetime.tasks.score], float)

    def note(number: int, outcome: Literal["alone", "removed", "kept"], score: float) -> None:
        trials.append(Trial(names[number], outcome, score))
        progress(trials[-1])

    def by_use(coefficients: Float[Array, "*owners terms"]) -> list[int]:
        """Coefficients that are not 0, that of the term which is missed least first."""
        places = {}
        for number in map(int, np.flatnonzero(coefficients)):
            alone = float(scores(_without(coefficients, number), split.train, rank_key).mean())
            note(number, "alone", alone)
            places[number] = (-alone if np.isfinite(alone) else np.inf, sizes[number])
        return sorted(places, key=places.__getitem__)

    least = scores(full, split.test, keep_key).mean() - tolerance

    def thinned(coefficients: Float[Array, "*owners terms"]) -> Float[Array, "*owners terms"]:
        """What one pass leaves."""
        for number in by_use(coefficients):
            shorter = _without(coefficients, number)
            score = float(scores(shorter, split.test, keep_key).mean())
            keep = not score >= least  # a score that is not a number allows nothing
            note(number, "kept" if keep else "removed", score)
            coefficients = coefficients if keep else shorter
        return coefficients

    coefficients, shorter = full, thinned(full)
    while np.count_nonzero(shorter) < np.count_nonzero(coefficients):
        coefficients, shorter = shorter, thinned(shorter)
    return Pruned(
        theta=_with(theta, coefficients),
        removed=tuple(trial.term for trial in trials if trial.outcome == "removed"),
        before=scores(full, split.test, report_key),
        after=scores(coefficients, split.test, report_key),
        trials=tuple(trials),
    )


def terms(lifetime: Lifetime, theta: Theta) -> dict[str, float]:
    """Terms that a θ holds and that could be removed, and their coefficients.

    Args:
        lifetime: who lives.
        theta: θ.

    Returns:
        Coefficients that are not 0 by term, with its path or projection where each has a θ of its own.

    Raises:
        ConfigError: a rule that has no terms.
    """
    names, values = _names(lifetime, theta), np.ravel(_coefficients(theta)).tolist()
    return {name: value for name, value in zip(names, values, strict=True) if value}


def _names(lifetime: Lifetime, theta: Theta) -> list[str]:
    """Terms that are not frozen, in the order of their coefficients."""
    rule = lifetime.rule
    if not isinstance(rule, Polynomial):
        raise ConfigError(f"rule = {type(rule).__name__}: it has no terms that could be removed; allowed: Polynomial")
    free = [name for name in rule.names if name not in rule.frozen]
    if lifetime.inner_loop.theta == "shared":
        return free
    return [f"{owner}: {name}" for owner in lifetime.describe(theta) for name in free]


def _coefficients(theta: Theta) -> Float[Array, "*owners terms"]:
    return theta["coefficients"] if isinstance(theta, Mapping) else theta


def _with(theta: Theta, coefficients: Float[Array, "*owners terms"]) -> Theta:
    return {**theta, "coefficients": coefficients} if isinstance(theta, Mapping) else coefficients


def _without(coefficients: Float[Array, "*owners terms"], number: int) -> Float[Array, "*owners terms"]:
    return coefficients.ravel().at[number].set(0).reshape(coefficients.shape)
