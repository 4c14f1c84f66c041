"""A rule read back as an equation: least squares of its Δw on terms, over the states that synapses visit.

Terms are added one after another, each time the one that increases R² most, and their coefficients fitted anew. Three
draws of lifetimes under the rule are used: one orders and fits the terms, one decides their number, and lifetimes of
held-out tasks, which decide nothing, measure R².
"""

from collections.abc import Sequence
from itertools import starmap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from immutabledict import immutabledict
from jaxtyping import Float
from msgspec.structs import replace

from metarule.analysis.comparison import count_text
from metarule.analysis.visited import Visited, term_values, visited
from metarule.circuits.base import offered_variables
from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.expansion import expand
from metarule.rules.lifting import local_variables
from metarule.rules.polynomial import Polynomial
from metarule.rules.terms import Term
from metarule.types import PRNGKey, Split, Theta

__all__ = ["Fit", "Readback", "read_back", "readback_table"]

# Variables of which all products of powers up to 2 are candidates by default; of more, all products without powers.
_SQUARED = 6
# Samples whose terms are computed at once.
_BLOCK = 4096
# Share of the mean square below which a variance or an error is rounding, and of a term below which it is a
# combination of others. Weights are float32.
_ROUNDING, _DEPENDENT = 1e-12, 1e-9


class Fit(NamedTuple):
    """Polynomial of one θ.

    Attributes:
        group: path or projection with its own θ; empty where θ is shared.
        terms: its terms, in the order in which they were added.
        coefficients: their coefficients [terms].
        r2: share of the variance of Δw that they explain in lifetimes of held-out tasks.
        all_terms_r2: the same with all candidate terms.
        order: all candidate terms in the order in which they were added, but those that are combinations of others.
        curve: R² on held-out tasks with 0, 1, … of these.
        lifetimes: lifetimes of each draw; diverged ones are left out.
    """

    group: str
    terms: tuple[str, ...]
    coefficients: Float[np.ndarray, " terms"]
    r2: float
    all_terms_r2: float
    order: tuple[str, ...]
    curve: Float[np.ndarray, " numbers"]
    lifetimes: tuple[int, int, int]


class Readback(NamedTuple):
    """A polynomial in place of a rule.

    Attributes:
        rule: the polynomial, with the terms of all θ.
        theta: its θ, shared as that of the rule.
        equation: the polynomial as one equation a θ.
        candidates: terms that it could have.
        fits: one for each θ.
    """

    rule: Polynomial
    theta: Theta
    equation: str
    candidates: tuple[str, ...]
    fits: tuple[Fit, ...]

    @property
    def r2(self) -> float:
        """Share of the variance of Δw that is explained on held-out tasks; the lowest of all θ."""
        return min(fit.r2 for fit in self.fits)


def read_back(
    lifetime: Lifetime,
    theta: Theta,
    split: Split,
    key: PRNGKey,
    lifetimes: int = 64,
    terms: Sequence[str] = (),
    tolerance: float = 0.01,
) -> Readback:
    """Fit a polynomial to a rule, over the states that synapses visit in lifetimes under the rule.

    R² = 1 − Σ(Δw − polynomial)² / Σ(Δw − mean Δw)²

    It is 1 for a constant Δw that is fitted exactly, else 0 there. It may be negative on other states than the fitted
    ones.

    Args:
        lifetime: the learner, with any rule.
        theta: θ.
        split: training tasks, which decide, and held-out tasks, which measure R².
        key: decides the three draws of lifetimes.
        lifetimes: lifetimes of each draw.
        terms: candidate terms, rules by name or families; by default all products of powers up to 2 of the variables
            that the rule reads, or without powers if it reads more than six.
        tolerance: R² that may be lost for fewer terms.

    Returns:
        The polynomial with the fewest terms whose R² is within the tolerance of the best.

    Raises:
        ConfigError: candidate terms with traces or with variables that the circuit does not offer, or a rule under
            which all lifetimes diverge.

    References:
        Orthogonal least squares: Chen, Billings, Luo 1989, "Orthogonal Least Squares Methods and Their Application to
        Non-Linear System Identification".
    """
    names, parsed, read = _candidates(lifetime, terms)
    pools = zip((split.train, split.train, split.test), jax.random.split(key, 3), strict=True)
    draws = [visited(lifetime, theta, pool, one, lifetimes, read) for pool, one in pools]
    for one in (one for draw in draws for one in draw):
        if not one.change.size:
            raise ConfigError(f"rule: all {lifetimes} lifetimes under it diverge, so that it is not read back")
    fits = tuple(starmap(lambda *groups: _fit(names, parsed, groups, tolerance), zip(*draws, strict=True)))
    used = tuple(dict.fromkeys(name for fit in fits for name in fit.terms)) or ("1",)
    rule, own = Polynomial(terms=used), {fit.group: dict(zip(fit.terms, fit.coefficients, strict=True)) for fit in fits}
    rows = [[own.get(group, {}).get(name, 0.0) for name in used] for group in lifetime.theta_groups or ("",)]
    fitted = lifetime.with_rule_theta(theta, jnp.asarray(rows if lifetime.theta_groups else rows[0]))
    return Readback(rule, fitted, replace(lifetime, rule=rule).equation(fitted), names, fits)


def readback_table(found: Readback, of: str) -> str:
    """Format R² against the number of terms for the screen.

    Args:
        found: from `read_back`.
        of: description of the tasks on which R² was measured.
    """
    every = f"all {count_text(len(found.candidates), 'terms')}"
    titles = {fit.group: f"terms, one by one{fit.group and f': {fit.group}'}" for fit in found.fits}
    width = max(34, len(every), *map(len, titles.values()), *(len(term) for fit in found.fits for term in fit.terms))
    lines = []
    for fit in found.fits:
        lines.append(f"{titles[fit.group]:<{width + 2}}R² on {of}")
        rows = [*zip(fit.terms, fit.curve[1:], strict=False), (every, fit.all_terms_r2)]
        lines += [f"  {term:<{width}}{r2:>9.4f}" for term, r2 in rows]
    return "\n".join(lines)


def _candidates(lifetime: Lifetime, texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[Term, ...], frozenset[str]]:
    """Candidate terms by name, and parsed; and the local variables that are needed, as recordings may lack others."""
    variables = local_variables(lifetime.rule)
    powers = 2 if len(variables) <= _SQUARED else 1
    default = f"taylor({', '.join(variables)}; {powers})" if variables else "1"
    rule = expand(tuple(texts) or (default,), immutabledict(), ())
    for name in rule.traces:
        raise ConfigError(f"terms: trace '{name}' is no local variable; allowed: terms without traces")
    offered = offered_variables(lifetime.circuit, lifetime.tasks.inputs, lifetime.tasks.outputs)
    read = frozenset({"weight"}).union(*rule.variables)
    for name in sorted(read - set(offered)):
        raise ConfigError(f"terms: synapses of this circuit see no {name}; allowed: {', '.join(offered)}")
    return rule.names, rule.terms, read


class _Moments(NamedTuple):
    """Means over samples: of products of two terms, of terms with Δw, of Δw², and of Δw."""

    terms: Float[np.ndarray, "terms terms"]
    cross: Float[np.ndarray, " terms"]
    square: float
    mean: float

    def r2(self, coefficients: Float[np.ndarray, " terms"]) -> float:
        """R² of a polynomial on these samples."""
        error = self.square - coefficients @ (2 * self.cross - self.terms @ coefficients)
        variance, least = self.square - self.mean**2, _ROUNDING * self.square
        return float(1 - error / variance if variance > least else error <= least)


def _fit(
    names: tuple[str, ...], terms: tuple[Term, ...], draws: tuple[Visited, Visited, Visited], tolerance: float
) -> Fit:
    """Polynomial of one θ, from samples that fit it, decide the number of its terms, and measure R²."""
    fitting, deciding, measuring = (_moments(terms, draw) for draw in draws)
    order, path = _forward_selection(fitting)
    scores = np.array([deciding.r2(coefficients) for coefficients in path])
    number = int(np.argmax(scores >= scores.max() - tolerance))
    curve = np.array([measuring.r2(coefficients) for coefficients in path])
    lifetimes = (draws[0].lifetimes, draws[1].lifetimes, draws[2].lifetimes)
    ordered, own = tuple(names[one] for one in order), path[number][order[:number]]
    return Fit(draws[0].group, ordered[:number], own, float(curve[number]), float(curve[-1]), ordered, curve, lifetimes)


def _moments(terms: tuple[Term, ...], draw: Visited) -> _Moments:
    count, size = len(terms), draw.change.size
    products = np.zeros((count + 2, count + 2))
    for start in range(0, size, _BLOCK):
        block = slice(start, start + _BLOCK)
        some = [None if values is None else values[block] for values in draw.variables]
        one = np.ones_like(draw.change[block])
        columns = np.stack([*(one * term_values(term, some) for term in terms), draw.change[block], one])
        products += columns @ columns.T
    products /= size
    return _Moments(products[:count, :count], products[:count, count], products[count, count], products[count, -1])


def _forward_selection(moments: _Moments) -> tuple[list[int], list[Float[np.ndarray, " terms"]]]:
    """Add terms one after another; the Gram matrix is eliminated by the column of each.

    Returns:
        (numbers of the terms in order; coefficients of all terms by least squares with the first 0, 1, … of them).
    """
    size = np.sqrt(np.diagonal(moments.terms))
    size = np.where(size > 0, size, 1.0)
    table = np.column_stack([moments.terms / np.outer(size, size), moments.cross / size])
    free, order, path = np.ones(size.size, bool), list[int](), [np.zeros(size.size)]
    while True:
        left = np.where(free, np.diagonal(table), 0.0)
        gains = np.where(left > _DEPENDENT, table[:, -1] ** 2 / np.maximum(left, _DEPENDENT), 0.0)
        best = int(np.argmax(gains))
        if not gains[best] > _ROUNDING * moments.square:
            return order, path
        row = table[best] / table[best, best]
        table -= np.outer(table[:, best], row)
        table[best] = row
        free[best] = False
        order.append(best)
        path.append(np.where(free, 0.0, table[:, -1]) / size)
