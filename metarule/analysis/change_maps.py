"""Δw of a rule over pairs of its variables, in the range that synapses visit."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from metarule.analysis.visited import Visited, term_values
from metarule.lifetime.learner import Lifetime
from metarule.rules.expansion import expand
from metarule.rules.lifting import complete, local_variables
from metarule.rules.polynomial import Polynomial
from metarule.types import Synapse, Theta

__all__ = ["ChangeMap", "change_maps", "chosen_maps"]

# Maps of one θ, points along each axis, and visited states that are shown.
_MAPS, _POINTS, _STATES = 6, 31, 200
# Quantiles at the ends of an axis, and the share of the largest variation below which a map is left out.
_ENDS, _LEAST = (0.05, 0.95), 0.05

Values = Mapping[str, Float[np.ndarray, "*points"]]


class ChangeMap(NamedTuple):
    """Δw over two variables; the others have their means over visited states.

    Attributes:
        group: path or projection with its own θ; empty where θ is shared.
        x: variable on the first axis.
        y: variable on the second axis.
        x_values: its values from the 5 % to the 95 % quantile of visited states [columns].
        y_values: those of y [rows].
        change: Δw [rows, columns].
        means: mean of every other variable that Δw depends on.
        x_visited: values of x in some visited states [states].
        y_visited: those of y in the same states [states].
    """

    group: str
    x: str
    y: str
    x_values: Float[np.ndarray, " columns"]
    y_values: Float[np.ndarray, " rows"]
    change: Float[np.ndarray, "rows columns"]
    means: Mapping[str, float]
    x_visited: Float[np.ndarray, " states"]
    y_visited: Float[np.ndarray, " states"]


def change_maps(lifetime: Lifetime, theta: Theta, draws: Sequence[Visited]) -> tuple[tuple[ChangeMap, ...], str]:
    """Map Δw over pairs of variables, at most six for each θ.

    The variables are local variables, and traces of a polynomial. The first map is that over which Δw varies most. The
    next ones are those of the largest variation besides effects of single variables that earlier maps show.

    Args:
        lifetime: the learner.
        theta: θ.
        draws: visited states of each θ.

    Returns:
        (the maps of one θ after another; the reason why there are none).
    """
    rule, scalar = complete(lifetime.rule), jax.ShapeDtypeStruct((), float)
    if not isinstance(rule, Polynomial) and jax.tree.leaves(jax.eval_shape(rule.memory, scalar)):
        return (), "Δw depends on a memory of synapses that is not known as traces"
    maps = tuple(one for draw in draws for one in _maps(lifetime, theta, draw))
    return maps, "" if maps else "Δw varies with no two variables"


def _maps(lifetime: Lifetime, theta: Theta, draw: Visited) -> list[ChangeMap]:
    """Maps of one θ."""
    names, change = _function(lifetime, theta, draw)
    seen = {name: values for name, values in (draw.variables._asdict() | dict(draw.traces)).items() if name in names}
    axes = {name: axis for name, values in seen.items() if (axis := _axis(values)) is not None}
    means = {name: float(values.mean()) for name, values in seen.items()}
    some = np.random.default_rng(0).permutation(len(draw.change))[:_STATES]
    maps = list[ChangeMap]()
    for x, y in combinations(axes, 2):
        grid = dict(zip((x, y), np.meshgrid(axes[x], axes[y]), strict=True))
        shape = grid[x].shape
        rest = {name: mean for name, mean in means.items() if name not in grid}
        values = change(grid | {name: np.full(shape, mean) for name, mean in rest.items()})
        visited = (seen[x][some], seen[y][some])
        maps.append(ChangeMap(draw.group, x, y, axes[x], axes[y], values, rest, *visited))
    return chosen_maps(maps)


def chosen_maps(maps: list[ChangeMap]) -> list[ChangeMap]:
    """Maps with the most variation that those before do not show."""
    chosen, shown = list[ChangeMap](), set[str]()
    least = _LEAST * max((one.change.std() for one in maps), default=0.0)

    def new(one: ChangeMap) -> float:
        rest = one.change - one.change.mean()
        of_x, of_y = rest.mean(axis=0), rest.mean(axis=1)[:, None]
        return float((rest - (one.x in shown) * of_x - (one.y in shown) * of_y).std())

    while maps and len(chosen) < _MAPS and new(best := max(maps, key=new)) > least:
        chosen.append(best)
        shown |= {best.x, best.y}
        maps = [one for one in maps if one is not best]
    return chosen


def _axis(values: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " points"] | None:
    """Points between the outer quantiles of visited values, or all if most are equal; None for a constant."""
    low, high = np.quantile(values, _ENDS)
    if low == high:
        low, high = values.min(), values.max()
    return np.linspace(low, high, _POINTS) if low < high else None


def _function(
    lifetime: Lifetime, theta: Theta, draw: Visited
) -> tuple[frozenset[str], Callable[[Values], Float[np.ndarray, "*points"]]]:
    """Variables of Δw, and Δw as a function of their values, under one θ."""
    rule, own = complete(lifetime.rule), lifetime.theta_of(theta, int(draw.projection[0]))
    if isinstance(rule, Polynomial):
        parsed = expand(rule.terms, rule.traces, rule.without)
        numbers = np.asarray(rule.coefficients(own), float).tolist()
        terms = [(number, term) for number, term in zip(numbers, parsed.terms, strict=True) if number]
        used = {place for _, term in terms for _, powers in term for place, power in enumerate(powers) if power}

        def of_terms(values: Values) -> Any:
            ordered = [values.get(name) for name in parsed.symbols]
            return sum(number * term_values(term, ordered) for number, term in terms)

        return frozenset(parsed.symbols[place] for place in used), of_terms
    memory = rule.memory(jnp.zeros(()))
    at_points = jax.jit(jax.vmap(lambda synapse: rule.delta(own, memory, synapse)[0]))

    def of_rule(values: Values) -> Any:
        shape = next(iter(values.values())).shape
        points = [jnp.asarray(np.ravel(values.get(name, np.zeros(shape))), float) for name in Synapse._fields]
        return np.asarray(at_points(Synapse(*points)), float).reshape(shape)

    return frozenset(local_variables(rule)), of_rule
