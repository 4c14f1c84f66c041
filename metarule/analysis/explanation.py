"""Explanation of a learned rule by the states that synapses visit under it.

Shares of its terms in the variance of Δw, and cosines between its Δw and those of rules by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from metarule.analysis.change_maps import ChangeMap, change_maps
from metarule.analysis.visited import Visited, term_values, visited
from metarule.circuits.base import lower_bounds_of, offered_variables
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.expansion import expand
from metarule.rules.lifting import local_variables
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import RULES
from metarule.types import PRNGKey, Theta

__all__ = ["ALL", "Explanation", "Mixture", "Part", "cosine", "explain_rule", "mixture_of", "shares_of_variance"]

# Name of the synapses that share a θ, where all do.
ALL = "all synapses"
# Share of the mean square below which a variance is rounding. Weights are float32.
_ROUNDING = 1e-12


class Mixture(NamedTuple):
    """Sum of rules by name, with coefficients ≥ 0, that is closest to Δw by least squares.

    Attributes:
        coefficients: by rule, those above 0.
        cosine: between the sum and Δw.
    """

    coefficients: Mapping[str, float]
    cosine: float


class Part(NamedTuple):
    """Numbers of the synapses that share a θ, or of those in one projection.

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
    shares: Mapping[str, float] | None
    cosines: Mapping[str, float]
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
    named = _offered_rules(lifetime)
    names = {"weight", *local_variables(lifetime.rule)}
    draws = visited(lifetime, theta, pool, key, lifetimes, names, tuple(named.values()))
    if not all(draw.change.size for draw in draws):
        raise ConfigError(f"rule: all {lifetimes} lifetimes under it diverge, so that it visits no states")
    still = [name for number, name in enumerate(named) if not any(draw.others[number].any() for draw in draws)]
    left_out = dict.fromkeys(still, "its Δw is 0 in all visited states")
    parts = [part for draw in draws for part in _parts(lifetime, theta, draw, tuple(named))]
    if not isinstance(lifetime.rule, Polynomial):
        left_out["shares"] = f"the rule is a {type(lifetime.rule).__name__}, which is no sum of terms"
    maps, reason = change_maps(lifetime, theta, draws)
    left_out |= {"maps": reason} if reason else {}
    return Explanation(tuple(parts), maps, left_out, min(draw.lifetimes for draw in draws))


def shares_of_variance(
    contributions: Sequence[Float[np.ndarray, " samples"]],
) -> tuple[Float[np.ndarray, " terms"], float]:
    """Share of each term in the variance of a sum.

    shareₖ = cov(termₖ, Σ terms) / var(Σ terms)

    Shares add up to 1. A share is negative if its term counteracts the others, which then have more than 1 together.

    Args:
        contributions: values of each term, with its coefficient.

    Returns:
        (shares, NaN if the sum is constant; standard deviation of the sum).
    """
    total = np.sum(contributions, axis=0)
    centred, square = total - total.mean(), np.mean(total**2)
    variance = np.mean(centred**2)
    if not variance > _ROUNDING * square:
        return np.full(len(contributions), np.nan), 0.0
    return np.array([np.mean(one * centred) / variance for one in contributions]), float(np.sqrt(variance))


def cosine(one: Float[np.ndarray, " samples"], other: Float[np.ndarray, " samples"]) -> float:
    """Cosine Σ a·b / (|a|·|b|) between two changes, without subtraction of their means; NaN if one is 0."""
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / size) if size > 0 else float("nan")


def mixture_of(change: Float[np.ndarray, " samples"], rules: Mapping[str, Float[np.ndarray, " samples"]]) -> Mixture:
    """Fit a sum of rules, with coefficients ≥ 0, to Δw.

    Args:
        change: Δw, not 0 everywhere.
        rules: Δw of each rule by name in the same states; those that are 0 everywhere are left out.

    References:
        Lawson, Hanson 1974, "Solving Least Squares Problems" (non-negative least squares).
    """
    from scipy.optimize import nnls  # imported late: slow, and only reports need it

    sizes = {name: float(np.linalg.norm(one)) for name, one in rules.items() if one.any()}
    if not sizes:
        return Mixture({}, float("nan"))
    columns = np.stack([rules[name] / size for name, size in sizes.items()], axis=1)
    size = float(np.linalg.norm(change))
    weights, _ = nnls(columns, change / size)
    coefficients = {
        name: float(weight * size / own) for (name, own), weight in zip(sizes.items(), weights, strict=True) if weight
    }
    return Mixture(coefficients, cosine(columns @ weights, change))


def _offered_rules(lifetime: Lifetime) -> dict[str, Polynomial]:
    """Rules by name, with coefficient 1, whose local variables the circuit offers."""
    offered = offered_variables(lifetime.circuit, lifetime.tasks.inputs, lifetime.tasks.outputs)
    rules = {name: Polynomial(terms=(name,), initial={name: 1.0}) for name in RULES}
    return {name: rule for name, rule in rules.items() if set(local_variables(rule)) <= set(offered)}


def _parts(lifetime: Lifetime, theta: Theta, draw: Visited, named: Sequence[str]) -> Iterator[Part]:
    """Parts of the synapses of one θ."""
    terms, numbers = _contributions(lifetime, theta, draw), np.unique(draw.projection)
    whole, beyond = draw.group or ALL, _beyond(lifetime, draw)

    def part(name: str, chosen: Bool[np.ndarray, " samples"]) -> Part:
        change, deviation, shares = draw.change[chosen], float(draw.change[chosen].std()), None
        if terms:
            each, deviation = shares_of_variance([one[chosen] for one in terms.values()])
            shares = dict(zip(terms, each.tolist(), strict=True)) if deviation else None
        others = {rule: row[chosen] for rule, row in zip(named, draw.others, strict=True) if row[chosen].any()}
        cosines = {rule: cosine(change, other) for rule, other in others.items()} if change.any() else {}
        ordered = dict(sorted(cosines.items(), key=lambda one: -one[1]))
        mixture = mixture_of(change, others) if cosines else None
        cut = float(beyond[chosen].mean())
        return Part(name, draw.group, name == whole, len(change), deviation, cut, shares, ordered, mixture)

    yield part(whole, np.ones(len(draw.change), bool))
    for number in numbers if numbers.size > 1 else ():
        yield part(f"projection {number + 1}", draw.projection == number)


def _beyond(lifetime: Lifetime, draw: Visited) -> Bool[np.ndarray, " samples"]:
    """True where w + Δw is beyond a bound of the weights."""
    bound, numbers = lifetime.inner_loop.weight_bound, draw.projection
    lowest = [-bound if one is None else one for one in lower_bounds_of(lifetime.circuit, int(numbers.max()) + 1)]
    after = draw.variables.weight + draw.change
    return (after > bound) | (after < np.array(lowest)[numbers])


def _contributions(lifetime: Lifetime, theta: Theta, draw: Visited) -> dict[str, Float[np.ndarray, " samples"]]:
    """Values of each term with its coefficient, of those that are not 0; none for a rule without terms."""
    rule = lifetime.rule
    if not isinstance(rule, Polynomial):
        return {}
    parsed = expand(rule.terms, rule.traces, rule.without)
    coefficients = np.asarray(rule.coefficients(lifetime.theta_of(theta, int(draw.projection[0]))), float)
    values, ones = (*draw.variables, *draw.traces.values()), np.ones(len(draw.change))
    terms = zip(parsed.names, parsed.terms, coefficients.tolist(), strict=True)
    return {name: number * ones * term_values(term, values) for name, term, number in terms if number}
