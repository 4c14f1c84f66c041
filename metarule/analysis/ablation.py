"""What each term of a rule contributes: its score without the term, and that of the most needed terms alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.analysis.comparison import by_task, count_text, describe_split, signed
from metarule.analysis.evaluation import learning_curves
from metarule.analysis.statistics import Interval, interval
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.polynomial import Polynomial
from metarule.tasks.base import primary_metric
from metarule.types import PRNGKey, Split, Theta

__all__ = [
    "Contribution",
    "coefficients_of",
    "contributions",
    "contributions_table",
    "measure",
    "measure_if_few",
    "names_of",
    "scores_by_task",
    "terms",
    "with_coefficients",
    "without",
]

Coefficients = Float[Array, "*theta_groups terms"]

# A run measures contributions of so many coefficients at most, each by two looks at so many lifetimes at most.
_MOST_COEFFICIENTS, _MOST_LIFETIMES = 32, 512
# Terms that are shown on the screen; a summary has all.
_SHOWN = 8


class Contribution(NamedTuple):
    """What one term of a rule is worth; all intervals are over tasks.

    Attributes:
        term: the term, with its path or projection where each has a θ of its own.
        coefficient: as it was learned.
        without: score of the rule without this term.
        difference: score of the full rule − score without the term, paired by task.
        alone_up_to: score of the rule of this term and those that are needed more.
    """

    term: str
    coefficient: float
    without: Interval
    difference: Interval
    alone_up_to: Interval


def contributions(
    lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> tuple[Contribution, ...]:
    """Measure what each term of a rule contributes, by ablation.

    contribution of term k = score(θ) − score(θ with cₖ = 0)

    Terms are ordered by it, and the rule is built up again in this order, so that the k-th row tells what the k most
    needed terms do alone. All looks are at the same tasks, orders and initial weights, and share one compiled program,
    for θ is data. Contributions do not add up: a term may do the work of another that is left out.

    Args:
        lifetime: the learner; its rule is a polynomial.
        theta: θ.
        pool: tasks, such as held-out ones.
        key: decides the lifetimes.
        lifetimes: how many each look takes.

    Returns:
        One entry for each coefficient that is not 0 and not frozen, the most needed first. Frozen terms and decays of
        traces are as they were throughout.

    Raises:
        ConfigError: a rule that has no terms.

    References:
        Meyes et al. 2019, "Ablation Studies in Artificial Neural Networks".
    """
    names, full = names_of(lifetime, theta), coefficients_of(theta)

    def scores(coefficients: Coefficients) -> Float[np.ndarray, " tasks"]:
        return scores_by_task(lifetime, with_coefficients(theta, coefficients), pool, key, lifetimes)

    whole = scores(full)
    present = map(int, np.flatnonzero(full))
    missed = {number: scores(without(full, number)) for number in present}
    kept, found = np.zeros_like(full), []
    for number in sorted(missed, key=lambda number: float(missed[number].mean())):
        kept.flat[number] = full.ravel()[number]
        row = Contribution(
            term=names[number],
            coefficient=float(full.ravel()[number]),
            without=interval(missed[number], share=True),
            difference=interval(whole - missed[number]),
            alone_up_to=interval(scores(jnp.asarray(kept)), share=True),
        )
        found.append(row)
    return tuple(found)


def measure(lifetime: Lifetime, theta: Theta, split: Split, key: PRNGKey, lifetimes: int) -> dict[str, Any]:
    """Make the part of a summary that tells what each term contributes on the test tasks of a split.

    Args:
        lifetime: the learner; its rule is a polynomial.
        theta: θ.
        split: of the tasks.
        key: decides the lifetimes.
        lifetimes: how many each look takes.

    Returns:
        `metric`, what the tasks are `of`, `lifetimes`, and `terms`: one `Contribution` each, the most needed first.
    """
    found = contributions(lifetime, theta, split.test, key, lifetimes)
    return {
        "metric": primary_metric(lifetime.tasks),
        "of": describe_split(split),
        "lifetimes": lifetimes,
        "terms": [_tree(row) for row in found],
    }


def measure_if_few(
    lifetime: Lifetime, theta: Theta, split: Split, key: PRNGKey, lifetimes: int
) -> dict[str, Any] | None:
    """Do as `measure` where that costs little beside a run.

    Args:
        lifetime: the learner.
        theta: θ.
        split: of the tasks.
        key: decides the lifetimes.
        lifetimes: how many there may be; no more than 512 are taken.

    Returns:
        The part of a summary; why it is `left_out` where there are more than 32 coefficients; None for a rule that has
        no terms.
    """
    if not isinstance(lifetime.rule, Polynomial):
        return None
    if (count := len(terms(lifetime, theta))) > _MOST_COEFFICIENTS:
        says = f"the rule has {count} coefficients; a run measures up to {_MOST_COEFFICIENTS}, metarule.prune all"
        return {"left_out": says}
    return measure(lifetime, theta, split, key, min(lifetimes, _MOST_LIFETIMES))


def contributions_table(report: Mapping[str, Any]) -> str:
    """Lay out contributions for the screen, the largest alone.

    Args:
        report: as from `measure_if_few`, or as read back from a summary.

    Returns:
        Lines.
    """
    if "left_out" in report:
        return f"contributions of terms left out: {report['left_out']}"
    rows, most = report["terms"], report["terms"][:_SHOWN]
    title = f"{report['of']}, {count_text(report['lifetimes'], 'lifetimes')}"
    width = max(34, len(title), *(len(row["term"]) + 2 for row in most)) + 2
    lines = [f"{title:<{width}}{'coefficient':>12}{'without':>9}   {'full rule ahead by':<28}{'up to it alone':>14}"]
    for row in most:
        line = f"  {row['term']:<{width - 2}}{row['coefficient']:>12.3g}{row['without']['mean']:>9.4f}"
        lines.append(f"{line}   {signed(row['difference']):<28}{row['alone_up_to']['mean']:>14.4f}")
    shown = "" if len(rows) == len(most) else f"the {len(most)} most needed of {len(rows)} terms; "
    lines.append(f"({shown}up to it alone: the rule of this term and those above it)")
    return "\n".join(lines)


def terms(lifetime: Lifetime, theta: Theta) -> dict[str, float]:
    """Terms that a θ holds and that could be removed, and their coefficients.

    Args:
        lifetime: the learner.
        theta: θ.

    Returns:
        Coefficients that are not 0 by term, with its path or projection where each has a θ of its own.

    Raises:
        ConfigError: a rule that has no terms.
    """
    names, values = names_of(lifetime, theta), np.ravel(coefficients_of(theta)).tolist()
    return {name: value for name, value in zip(names, values, strict=True) if value}


def names_of(lifetime: Lifetime, theta: Theta) -> list[str]:
    """Terms that are not frozen, in the order of their coefficients."""
    rule = lifetime.rule
    if not isinstance(rule, Polynomial):
        raise ConfigError(f"rule = {type(rule).__name__}: it has no terms that could be removed; allowed: Polynomial")
    free = [name for name in rule.names if name not in rule.frozen]
    if lifetime.inner_loop.theta == "shared":
        return free
    return [f"{owner}: {name}" for owner in lifetime.describe(theta) for name in free]


def coefficients_of(theta: Theta) -> Coefficients:
    """Coefficients of a θ of a polynomial, which may hold decays besides."""
    return theta["coefficients"] if isinstance(theta, Mapping) else theta


def with_coefficients(theta: Theta, coefficients: Coefficients) -> Theta:
    """The same θ with other coefficients."""
    return {**theta, "coefficients": coefficients} if isinstance(theta, Mapping) else coefficients


def without(coefficients: Coefficients, number: int) -> Coefficients:
    """The same coefficients with 0 for one of them, by its number."""
    return coefficients.ravel().at[number].set(0).reshape(coefficients.shape)


def scores_by_task(
    lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> Float[np.ndarray, " tasks"]:
    """Mean score of each task at the end of its lifetimes; arguments as of `metarule.analysis.evaluation.learning_curves`."""
    seen = jax.device_get(learning_curves(lifetime, theta, pool, key, lifetimes, 1))
    return by_task(seen, primary_metric(lifetime.tasks))[:, -1]


def _tree(row: Contribution) -> dict[str, Any]:
    """A contribution as a summary has it."""
    return {name: value._asdict() if isinstance(value, Interval) else value for name, value in row._asdict().items()}
