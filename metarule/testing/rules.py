"""Contract of rules: `check_rule(MyRule())`."""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from metarule.prng import run_key
from metarule.protocols import Factored
from metarule.rules.lifting import POST_SIDE, PRE_SIDE, complete, lift, local_variables
from metarule.testing.common import assert_equal_by_value, assert_one_trace, assert_precision, named, run_checks
from metarule.types import PRNGKey, Synapse, Theta

__all__ = ["RULE_CHECKS", "check_rule"]

_PRE, _POST = 3, 4
_TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def check_rule(rule: Any, *, checks: Sequence[str] | None = None, seed: int = 0) -> None:
    """Check that a rule keeps the contract that metarule relies on.

    Args:
        rule: a rule; one with `init` and `delta` alone is completed with defaults.
        checks: names of checks, all by default.
        seed: decides θ and the local variables.

    Raises:
        AssertionError: naming the rule, the check that it fails, and how.
        RuntimeError: Python runs without assertions, so that nothing would be checked.
    """
    run_checks(rule, RULE_CHECKS, checks, seed, type(rule).__name__)


def _protocol(rule: Any, seed: int) -> None:
    """It has `init` and `delta`, and is equal by value, so that equal rules share compiled programs."""
    complete(rule)
    assert_equal_by_value(rule)


def _shapes(rule: Any, seed: int) -> None:
    """Shapes of Δw, memory and parameter scale fit the weight and θ, and `init` can be vmapped."""
    case = _case(rule, seed)
    for leaf in jax.tree.leaves(case.memory):
        assert leaf.shape[:2] == (_PRE, _POST), f"its memory has shape {leaf.shape}, which is not one entry a synapse"
    for form, given, wanted in (("update", case, (_PRE, _POST)), ("delta", _one(case), ())):
        change, memory = jax.eval_shape(getattr(rule, form), *given)
        assert change.shape == wanted, f"{form} gives a change of shape {change.shape} where weights have {wanted}"
        _assert_alike(memory, given.memory, f"memory after {form}", "memory before")
    _assert_alike(jax.eval_shape(rule.scale), case.theta, "scale", "θ")
    many = jax.eval_shape(jax.vmap(rule.init), jax.random.split(run_key(seed), 2))
    _assert_alike(many, _twice(case.theta), "two θ at once", "a pair of θ")


def _dtypes(rule: Any, seed: int) -> None:
    """Everything is computed in the precision of θ and the weights."""

    def results() -> Any:
        case = _case(rule, seed)
        after = [jax.eval_shape(rule.update, *case), jax.eval_shape(rule.delta, *_one(case))]
        return case.theta, case.memory, jax.eval_shape(rule.scale), after

    assert_precision(results)


def _matrix_form(rule: Any, seed: int) -> None:
    """`update` of a projection equals `delta` at each of its synapses."""
    with jax.enable_x64(True):
        case = _case(rule, seed)
        chex.assert_trees_all_close(_update(rule, case), jax.jit(lift(rule.delta))(*case), **_TOLERANCE)


def _parts(rule: Any, seed: int) -> None:
    """If it is `factored`, ΔW is the sum of its parts, and presynaptic factors are presynaptic."""
    if not isinstance(rule, Factored) or not rule.factored:
        return
    with jax.enable_x64(True):
        case = _case(rule, seed)
        parts = jax.jit(rule.parts)
        left, right, factor = jax.device_get(parts(case.theta, case.projection))
        change = left.T @ right + factor[:, None] * case.projection.weight
        chex.assert_trees_all_close(_update(rule, case)[0], change, **_TOLERANCE)
        other = _case(rule, seed + 1).projection
        sent = other._replace(pre=case.projection.pre, pre_trace=case.projection.pre_trace)
        chex.assert_trees_all_close(parts(case.theta, sent)[::2], (left, factor), **_TOLERANCE)


def _locality(rule: Any, seed: int) -> None:
    """The change of a synapse does not depend on other synapses."""
    with jax.enable_x64(True):
        case, other = _case(rule, seed), _case(rule, seed + 1)
        here = _update(rule, case)
        for place in ((0, 0), (_PRE - 1, _POST - 1)):
            there = _update(rule, _transplant(case, other, *place))
            chex.assert_trees_all_close(_at(here, *place), _at(there, *place), **_TOLERANCE)


def _variables(rule: Any, seed: int) -> None:
    """Local variables that `delta` does not read have no effect on `update`, and may be missing."""
    with jax.enable_x64(True):
        case = _case(rule, seed)
        hidden: dict[str, Any] = {
            name: None if name in Synapse._field_defaults else jnp.full_like(value, jnp.nan)
            for name, value in case.projection._asdict().items()
            if name not in local_variables(rule)
        }
        alone = case._replace(projection=case.projection._replace(**hidden))
        chex.assert_trees_all_close(_update(rule, alone), _update(rule, case), **_TOLERANCE)


def _finite_at_rest(rule: Any, seed: int) -> None:
    """Without any activity the change, the memory and all gradients are finite."""
    case = _case(rule, seed)
    silent = jax.tree.map(jnp.zeros_like, case.projection)

    def total(given: _Case) -> tuple[Any, Any]:
        after = rule.update(*given)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(after)), after

    gradient = jax.jit(jax.grad(total, has_aux=True))
    for weight in (case.projection.weight, silent.weight):
        chex.assert_tree_all_finite(gradient(_Case(case.theta, rule.memory(weight), silent._replace(weight=weight))))


def _gradients(rule: Any, seed: int) -> None:
    """Derivatives by θ, memory and local variables equal finite differences, in forward and reverse mode."""
    with jax.enable_x64(True):
        case = tuple(_case(rule, seed))
        check_grads(lambda *given: _update(rule, _Case(*given)), case, 1, ("fwd", "rev"), rtol=1e-5, atol=1e-6)


def _one_trace(rule: Any, seed: int) -> None:
    """Equal rules share one compiled program."""
    memory = rule.memory(_case(rule, seed).projection.weight)
    with assert_one_trace(lambda rule, given: rule.update(*given)) as update:
        for number in range(3):
            _, memory = update(rule, _case(rule, seed + number)._replace(memory=memory))


def _names(rule: Any, seed: int) -> None:
    """Parameters are scalars with plain names, also for many θ at once, and the equation is one line."""
    theta = _case(rule, seed).theta
    described = jax.eval_shape(rule.describe, theta)
    for name, value in described.items():
        assert isinstance(name, str), f"{name!r} is no name"
        assert ": " not in name, f"the name '{name}' holds ': ', which stands between a projection and a name"
        assert "\n" not in name, f"the name {name!r} is more than one line"
        assert value.shape == (), f"'{name}' has shape {value.shape}; a name is given to one number"
    named = jax.eval_shape(jax.vmap(rule.describe), _twice(theta))
    assert set(named) == set(described), "its names depend on how many θ there are"
    line = rule.equation(theta)
    assert line.startswith("Δw = "), f"its equation begins with '{line[:5]}', not with 'Δw = '"
    assert "\n" not in line, "its equation is more than one line"


def _completed(check: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    return wraps(check)(lambda rule, seed: check(complete(rule), seed))


_OF_FORM = (_shapes, _dtypes, _matrix_form, _parts, _names)
_OF_VALUES = (_locality, _variables, _finite_at_rest, _gradients, _one_trace)
RULE_CHECKS = named([_protocol, *map(_completed, _OF_FORM + _OF_VALUES)])


class _Case(NamedTuple):
    """Arguments of `update`."""

    theta: Theta
    memory: Any
    projection: Synapse


@partial(jax.jit, static_argnums=0)
def _update(rule: Any, case: _Case) -> Any:
    return rule.update(*case)


@partial(jax.jit, static_argnums=0)
def _initial(rule: Any, key: PRNGKey) -> tuple[Theta, Theta]:
    return rule.init(key), rule.scale()


def _case(rule: Any, seed: int) -> _Case:
    """A θ in general position, a projection, and a memory after two steps."""
    draw = np.random.default_rng(seed)
    theta = jax.tree.map(
        lambda leaf, scale: jnp.asarray(leaf + 0.3 * scale * draw.normal(size=leaf.shape), leaf.dtype),
        *jax.device_get(_initial(rule, run_key(seed))),
    )
    projection = _projection(draw)
    memory = rule.memory(projection.weight)
    for _ in range(2):
        _, memory = _update(rule, _Case(theta, memory, projection))
        projection = _projection(draw)
    return _Case(theta, memory, projection)


def _projection(draw: np.random.Generator) -> Synapse:
    shapes = _places(_PRE, _POST)
    return Synapse(*(jnp.asarray(draw.normal(size=shapes[name]), float) for name in Synapse._fields))


def _places(pre: int, post: int) -> dict[str, tuple[int, ...]]:
    """Index of each variable of one synapse in a projection."""
    places = dict.fromkeys(PRE_SIDE, (pre,)) | dict.fromkeys(POST_SIDE, (post,)) | {"weight": (pre, post)}
    return {name: places.get(name, ()) for name in Synapse._fields}


def _at(tree: Any, pre: int, post: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[pre, post], tree)


def _one(case: _Case, pre: int = 0, post: int = 0) -> _Case:
    """Arguments of one synapse."""
    own = {name: np.asarray(getattr(case.projection, name))[place] for name, place in _places(pre, post).items()}
    return _Case(case.theta, _at(case.memory, pre, post), Synapse(**own))


def _transplant(case: _Case, other: _Case, pre: int, post: int) -> _Case:
    """Arguments of the other network, with those of one synapse taken from this one."""
    theta, memory, synapse = _one(case, pre, post)
    mixed = {
        name: getattr(other.projection, name).at[place].set(getattr(synapse, name))
        for name, place in _places(pre, post).items()
    }
    memory = jax.tree.map(lambda leaf, own: leaf.at[pre, post].set(own), other.memory, memory)
    return _Case(theta, memory, Synapse(**mixed))


def _twice(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tree)


def _assert_alike(tree: Any, wanted: Any, what: str, like: str) -> None:
    shapes = [jax.tree.map(lambda leaf: leaf.shape, given) for given in (tree, wanted)]
    assert shapes[0] == shapes[1], f"{what} has the shapes {shapes[0]}, {like} has {shapes[1]}"
