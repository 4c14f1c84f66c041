"""Explanation of a learned rule by the states that synapses visit under it.

Shares of its terms in the variance of Δw, and cosines between its Δw and those of rules by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from msgspec.structs import replace

from metarule.analysis.change_maps import ChangeMap, change_maps
from metarule.analysis.statistics import Interval, jackknife
from metarule.analysis.visited import Visited, term_values, visited
from metarule.circuits.base import lower_bounds_of
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.expansion import expand
from metarule.rules.lifting import local_variables
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import RULES
from metarule.types import PRNGKey, Theta

__all__ = ["ALL", "Explanation", "Mixture", "Part", "cosines", "explain_rule", "is_possible", "mixture_of"]
__all__ += ["shares_of_variance"]

# Name of the synapses that share a θ, where all do.
ALL = "all synapses"
# Share of the largest Δw below which a deviation is rounding. Weights are float32.
_ROUNDING = 1e-6
_TINY = np.finfo(float).tiny


class Mixture(NamedTuple):
    """Sum of rules by name, with coefficients ≥ 0, that is closest to Δw by least squares.

    Attributes:
        coefficients: by rule, those above 0.
        cosine: between the sum and Δw; 0 if there are none.
    """

    coefficients: Mapping[str, float]
    cosine: float


class Part(NamedTuple):
    """Numbers of the synapses that share a θ, or of those in one projection; intervals are over lifetimes.

    Attributes:
        part: their name.
        group: path or projection with its own θ; empty where θ is shared.
        is_whole: whether these are all synapses with this θ.
        samples: number of states.
        deviation: standard deviation of Δw.
        beyond: share of the states in which w + Δw is beyond a bound of the weights, which then cuts Δw.
        shares: share of each term in the variance of Δw; None for a rule without terms, or a constant Δw.
        cosines: between Δw and that of each rule by name, the highest first; empty if Δw is 0.
        mixture: None if Δw is 0.
    """

    part: str
    group: str
    is_whole: bool
    samples: int
    deviation: float
    beyond: float
    shares: Mapping[str, Interval] | None
    cosines: Mapping[str, Interval]
    mixture: Mixture | None


class Explanation(NamedTuple):
    """Explanation of a rule.

    Attributes:
        parts: for each θ all its synapses, then those of each projection if there are several.
        maps: Δw over pairs of variables, for each θ.
        left_out: reasons why something is missing, by its name.
        lifetimes: number of lifetimes that did not diverge, in the group with fewest.
    """

    parts: tuple[Part, ...]
    maps: tuple[ChangeMap, ...]
    left_out: Mapping[str, str]
    lifetimes: int


def explain_rule(lifetime: Lifetime, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int) -> Explanation:
    """Explain a rule by the states that synapses visit in lifetimes under it.

    Δw is that of the rule, before the gate of plasticity and the bound of the weights. Rules by name have the
    coefficients of their definition, and the decays of their traces are 0.9.

    Args:
        lifetime: the learner, with any rule.
        theta: θ.
        pool: tasks.
        key: decides the lifetimes and the sampled states.
        lifetimes: number of lifetimes.

    Raises:
        ConfigError: a rule under which all lifetimes diverge.
    """
    named = {name: Polynomial(terms=(name,), initial={name: 1.0}) for name in RULES if is_possible(lifetime, name)}
    names = {"weight", *local_variables(lifetime.rule)}
    draws = visited(lifetime, theta, pool, key, lifetimes, names, tuple(named.values()))
    if not all(draw.change.size for draw in draws):
        raise ConfigError(f"rule: all {lifetimes} lifetimes under it diverge, so that it visits no states")
    still = [name for number, name in enumerate(named) if not any(draw.others[number].any() for draw in draws)]
    left_out = dict.fromkeys(still, "its Δw is 0 in all visited states")
    parts = [part for draw in draws for part in _parts(lifetime, theta, draw, tuple(named))]
    if not isinstance(lifetime.rule, Polynomial):
        left_out["shares"] = f"rule = {type(lifetime.rule).__name__}: it is no sum of terms"
    maps, reason = change_maps(lifetime, theta, draws)
    left_out |= {"maps": reason} if reason else {}
    return Explanation(tuple(parts), maps, left_out, min(draw.lifetimes for draw in draws))


def is_possible(lifetime: Lifetime, name: str) -> bool:
    """True if circuit and tasks have all local variables that a rule by name reads."""
    try:
        replace(lifetime, rule=Polynomial(terms=(name,)))
    except ValueError:
        return False
    return True


def shares_of_variance(contributions: Float[np.ndarray, "terms samples"]) -> Float[np.ndarray, " terms"]:
    """Share of each term in the variance of a sum.

    shareₖ = cov(termₖ, Σ terms) / var(Σ terms)

    Shares add up to 1. A share is negative if its term counteracts the others, which then have more than 1 together.

    Args:
        contributions: values of each term, with its coefficient; their sum is not constant.
    """
    total = contributions.sum(axis=0)
    centred = total - total.mean()
    return contributions @ centred / max(centred @ centred, _TINY)


def cosines(changes: Float[np.ndarray, "rules samples"]) -> Float[np.ndarray, " others"]:
    """Cosine Σ a·b / (|a|·|b|) of the first change with each other, without subtraction of their means; none is 0."""
    first, *others = changes / np.maximum(np.linalg.norm(changes, axis=1, keepdims=True), _TINY)
    return np.array([first @ other for other in others])


def mixture_of(change: Float[np.ndarray, " samples"], rules: Mapping[str, Float[np.ndarray, " samples"]]) -> Mixture:
    """Fit a sum of rules, with coefficients ≥ 0, to Δw.

    Args:
        change: Δw, not 0 everywhere.
        rules: Δw of each rule by name in the same states, none of them 0 everywhere.

    References:
        Lawson, Hanson 1974, "Solving Least Squares Problems" (non-negative least squares).
    """
    from scipy.optimize import nnls  # imported late: slow, and only reports need it

    sizes = {name: float(np.linalg.norm(one)) for name, one in rules.items()}
    columns = np.stack([rules[name] / size for name, size in sizes.items()], axis=1)
    size = float(np.linalg.norm(change))
    weights, _ = nnls(columns, change / size)
    coefficients = {
        name: float(weight * size / own) for (name, own), weight in zip(sizes.items(), weights, strict=True) if weight
    }
    return Mixture(coefficients, float(cosines(np.stack([columns @ weights, change]))[0]))


def _parts(lifetime: Lifetime, theta: Theta, draw: Visited, named: Sequence[str]) -> Iterator[Part]:
    """Parts of the synapses of one θ."""
    terms, contributions = _contributions(lifetime, theta, draw)
    whole, beyond, numbers = draw.group or ALL, _beyond(lifetime, draw), np.unique(draw.projection)

    def part(name: str, chosen: Bool[np.ndarray, " samples"]) -> Part:
        change, others = draw.change[chosen], draw.others[:, chosen]
        shares, near, mixture = None, dict[str, Interval](), None
        deviation = float(change.std())
        if terms and deviation > _ROUNDING * np.abs(change).max():
            shares = dict(zip(terms, jackknife(contributions[:, chosen], shares_of_variance), strict=True))
        moving = {rule: row for rule, row in zip(named, others, strict=True) if row.any()}
        if change.any() and moving:
            found = zip(moving, jackknife(np.stack([change, *moving.values()]), cosines), strict=True)
            near = dict(sorted(found, key=lambda one: -one[1].mean))
            mixture = mixture_of(change, moving)
        cut = float(beyond[chosen].mean())
        return Part(name, draw.group, name == whole, len(change), deviation, cut, shares, near, mixture)

    yield part(whole, np.ones(len(draw.change), bool))
    for number in numbers if numbers.size > 1 else ():
        yield part(f"projection {number + 1}", draw.projection == number)


def _beyond(lifetime: Lifetime, draw: Visited) -> Bool[np.ndarray, " samples"]:
    """True where w + Δw is beyond a bound of the weights."""
    bound, numbers = lifetime.inner_loop.weight_bound, draw.projection
    lowest = [-bound if one is None else one for one in lower_bounds_of(lifetime.circuit, int(numbers.max()) + 1)]
    after = draw.variables.weight + draw.change
    return (after > bound) | (after < np.array(lowest)[numbers])


def _contributions(
    lifetime: Lifetime, theta: Theta, draw: Visited
) -> tuple[list[str], Float[np.ndarray, "terms samples"]]:
    """Terms whose coefficient is not 0, and their values with it; none for a rule without terms."""
    rule, size = lifetime.rule, len(draw.change)
    if not isinstance(rule, Polynomial):
        return [], np.zeros((0, size))
    parsed = expand(rule.terms, rule.traces, rule.without)
    coefficients = np.asarray(rule.coefficients(lifetime.theta_of(theta, int(draw.projection[0]))), float)
    values, used = (*draw.variables, *draw.traces.values()), np.flatnonzero(coefficients).tolist()
    rows = np.zeros((len(used), size))
    for row, number in zip(rows, used, strict=True):
        row[:] = coefficients[number] * term_values(parsed.terms[number], values)
    return [parsed.names[number] for number in used], rows
