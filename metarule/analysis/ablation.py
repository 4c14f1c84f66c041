"""Contribution of each term of a rule: its score without the term, and that of the most important terms alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from metarule.analysis.comparison import by_task, count_text, describe_split, difference_text
from metarule.analysis.evaluation import learning_curves
from metarule.analysis.statistics import Interval, interval
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.lifting import by_name
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.tasks.base import primary_metric
from metarule.types import PRNGKey, Split, Theta

__all__ = [
    "Coefficients",
    "Contribution",
    "coefficients_of",
    "contribution_report",
    "contributions",
    "contributions_table",
    "limited_contribution_report",
    "removable_terms",
    "scores_by_task",
    "term_names",
    "with_coefficients",
    "without_term",
]

Coefficients = Float[Array, "*theta_groups terms"]

# Limits of the measurement at the end of a run: it costs two evaluations for each coefficient.
_MAX_COEFFICIENTS, _MAX_LIFETIMES = 32, 512
# Rows of the table on the screen; a summary has all terms.
_TABLE_ROWS = 8


class Contribution(NamedTuple):
    """Contribution of one term of a rule; all intervals are over tasks.

    Attributes:
        term: the term, after its path or projection if each has its own θ.
        coefficient: its learned coefficient.
        without: score of the rule without this term.
        difference: score of the full rule − score without the term, paired by task.
        cumulative: score of the rule of this term and the more important ones.
    """

    term: str
    coefficient: float
    without: Interval
    difference: Interval
    cumulative: Interval


def contributions(
    lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> tuple[Contribution, ...]:
    """Measure the contribution of each term of a rule by ablation.

    contribution of term k = score(θ) − score(θ with cₖ = 0)

    Terms are ordered by it, and then added in this order: row k has the score of the k most important terms. All
    evaluations use the same tasks, orders and initial weights, and one compiled program, because θ is data.
    Contributions do not add up: one term may replace another that is removed.

    Args:
        lifetime: the learner; its rule is a polynomial, or a user's own rule.
        theta: θ.
        pool: tasks, such as held-out ones.
        key: decides the lifetimes.
        lifetimes: lifetimes of each evaluation.

    Returns:
        One entry for each coefficient that is neither 0 nor frozen, the most important first. Frozen terms and decays
        of traces are unchanged throughout.

    Raises:
        ConfigError: the rule has no terms.

    References:
        Meyes et al. 2019, "Ablation Studies in Artificial Neural Networks".
    """
    names, full = term_names(lifetime, theta), coefficients_of(lifetime, theta)

    def scores(coefficients: Coefficients) -> Float[np.ndarray, " tasks"]:
        return scores_by_task(lifetime, with_coefficients(lifetime, theta, coefficients), pool, key, lifetimes)

    full_scores = scores(full)
    scores_without = {number: scores(without_term(full, number)) for number in map(int, np.flatnonzero(full))}
    subset, rows = np.zeros_like(full), []
    for number in sorted(scores_without, key=lambda number: float(scores_without[number].mean())):
        coefficient = subset.flat[number] = full.ravel()[number]
        without = interval(scores_without[number], share=True)
        difference = interval(full_scores - scores_without[number])
        cumulative = interval(scores(jnp.asarray(subset)), share=True)
        rows.append(Contribution(names[number], float(coefficient), without, difference, cumulative))
    return tuple(rows)


def contribution_report(lifetime: Lifetime, theta: Theta, split: Split, key: PRNGKey, lifetimes: int) -> dict[str, Any]:
    """Make the part of a summary with the contribution of each term; arguments as of `contributions`.

    Returns:
        `metric`, `of` (a description of the tasks), `lifetimes`, and `terms`: one `Contribution` each.
    """
    rows = contributions(lifetime, theta, split.test, key, lifetimes)
    intervals = ("without", "difference", "cumulative")
    terms = [row._asdict() | {name: getattr(row, name)._asdict() for name in intervals} for row in rows]
    metric, of = primary_metric(lifetime.tasks), describe_split(split)
    return {"metric": metric, "of": of, "lifetimes": lifetimes, "terms": terms}


def limited_contribution_report(
    lifetime: Lifetime, theta: Theta, split: Split, key: PRNGKey, lifetimes: int
) -> dict[str, Any] | None:
    """Make a `contribution_report`, from its arguments, if it costs little compared with a run.

    Returns:
        The report, of at most 512 lifetimes; the reason as `skipped` for more than 32 coefficients; None for a rule
        without terms.
    """
    if isinstance(lifetime.rule, MLP):
        return None
    if (count := len(removable_terms(lifetime, theta))) > _MAX_COEFFICIENTS:
        limit = f"a run measures up to {_MAX_COEFFICIENTS}; metarule prune measures all"
        return {"skipped": f"the rule has {count} coefficients; {limit}"}
    return contribution_report(lifetime, theta, split, key, min(lifetimes, _MAX_LIFETIMES))


def contributions_table(report: Mapping[str, Any]) -> str:
    """Format the largest contributions of a `limited_contribution_report` for the screen."""
    if "skipped" in report:
        return f"contributions of terms skipped: {report['skipped']}"
    rows, first = report["terms"], report["terms"][:_TABLE_ROWS]
    title = f"{report['of']}, {count_text(report['lifetimes'], 'lifetimes')}"
    width = max(34, len(title), *(len(row["term"]) + 2 for row in first)) + 2
    lines = [f"{title:<{width}}{'coefficient':>12}{'without':>9}   {'full rule − without':<28}{'cumulative':>14}"]
    for row in first:
        line = f"  {row['term']:<{width - 2}}{row['coefficient']:>12.3g}{row['without']['mean']:>9.4f}"
        lines.append(f"{line}   {difference_text(row['difference']):<28}{row['cumulative']['mean']:>14.4f}")
    omitted = "" if len(rows) == len(first) else f"the {len(first)} most important of {len(rows)} terms; "
    lines.append(f"({omitted}cumulative: the rule of this term and those above it)")
    return "\n".join(lines)


def removable_terms(lifetime: Lifetime, theta: Theta) -> dict[str, float]:
    """Coefficients that are not 0 by term, after its path or projection if each has its own θ.

    Raises:
        ConfigError: the rule has no terms.
    """
    names, values = term_names(lifetime, theta), np.ravel(coefficients_of(lifetime, theta)).tolist()
    return {name: value for name, value in zip(names, values, strict=True) if value}


def term_names(lifetime: Lifetime, theta: Theta) -> list[str]:
    """Names of the terms that are not frozen, in the order of their coefficients.

    Each parameter of a user's own rule is a term.
    """
    rule = lifetime.rule
    if isinstance(rule, MLP):
        raise ConfigError("rule = MLP: it has no terms that could be removed; allowed: Polynomial, or a rule of yours")
    if not isinstance(rule, Polynomial):
        return list(by_name(lifetime.rule_theta(theta)))
    free = [name for name in rule.names if name not in rule.frozen]
    if lifetime.inner_loop.theta == "shared":
        return free
    return [f"{group}: {name}" for group in lifetime.theta_groups for name in free]


def coefficients_of(lifetime: Lifetime, theta: Theta) -> Coefficients:
    """Coefficients of a θ, which for a polynomial may also hold decays."""
    theta = lifetime.rule_theta(theta)
    if not isinstance(lifetime.rule, Polynomial):
        return ravel_pytree(theta)[0]
    return theta["coefficients"] if isinstance(theta, Mapping) else theta


def with_coefficients(lifetime: Lifetime, theta: Theta, coefficients: Coefficients) -> Theta:
    """The same θ with other coefficients."""
    before = lifetime.rule_theta(theta)
    if not isinstance(lifetime.rule, Polynomial):
        rule = ravel_pytree(before)[1](coefficients)
    else:
        rule = {**before, "coefficients": coefficients} if isinstance(before, Mapping) else coefficients
    return lifetime.with_rule_theta(theta, rule)


def without_term(coefficients: Coefficients, number: int) -> Coefficients:
    """The same coefficients with one set to 0, by its number."""
    rest = np.array(coefficients)
    rest.flat[number] = 0
    return jnp.asarray(rest)


def scores_by_task(
    lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> Float[np.ndarray, " tasks"]:
    """Mean score of each task at the end of its lifetimes; arguments as of `learning_curves`."""
    curves = jax.device_get(learning_curves(lifetime, theta, pool, key, lifetimes, 1))
    return by_task(curves, primary_metric(lifetime.tasks))[:, -1]
