"""Initial weights that are meta-learned together with θ of the rule.

θ is then a dictionary of `rule`, θ of the rule, and `initial`, arrays of the circuit by name.
"""

from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey
from jaxtyping import Array, Float

from metarule.prng import run_key
from metarule.protocols import Circuit, LearnedInitial
from metarule.types import LOGITS, PRNGKey, Theta, Weights

__all__ = ["INITIAL", "RULE", "draw", "learns_initial", "placed", "rule_of", "scale", "with_rule", "with_scaled_rule"]

RULE, INITIAL = "rule", "initial"


def learns_initial(circuit: Any) -> TypeGuard[LearnedInitial]:
    """True if the initial weights of a circuit are meta-learned."""
    return isinstance(circuit, LearnedInitial) and circuit.learns_initial


def rule_of(circuit: Circuit, theta: Theta) -> Theta:
    """θ of the rule."""
    return theta[RULE] if learns_initial(circuit) else theta


def with_rule(circuit: Circuit, theta: Theta, rule: Theta) -> Theta:
    """θ with another θ of the rule, and the same initial weights."""
    return theta | {RULE: rule} if learns_initial(circuit) else rule


def with_scaled_rule(theta: Theta, share: Float[Array, ""]) -> Theta:
    """θ with a share of the rule; its decays, and initial weights that are meta-learned, keep their values."""

    def scaled(path: Any, leaf: Float[Array, "..."]) -> Float[Array, "..."]:
        is_kept = LOGITS in path or path[:1] == (DictKey(INITIAL),)
        return leaf if is_kept else leaf * share.astype(leaf.dtype)

    return jax.tree.map_with_path(scaled, theta)


def draw(circuit: LearnedInitial, key: PRNGKey, sizes: tuple[int, int]) -> Theta:
    """Draw the arrays that are meta-learned, as the circuit draws them."""
    weights, wiring, _ = circuit.init(key, *sizes)  # type: ignore[attr-defined]
    return circuit.initial_values(weights, wiring)


def scale(circuit: LearnedInitial, sizes: tuple[int, int], multiple: float = 1.0) -> Theta:
    """Scale of each array: a multiple of the root of the mean square of what a circuit draws, or of 1 if that is 0."""

    def size(values: Any) -> Any:
        root = jnp.sqrt(jnp.mean(values**2))
        return jnp.full_like(values, multiple * jnp.where(root > 0, root, 1.0))

    return jax.tree.map(size, draw(circuit, run_key(0), sizes))


def placed(circuit: Circuit, theta: Theta, weights: Weights, wiring: Any) -> tuple[Weights, Any]:
    """Weights and wiring with what was meta-learned in place of what was drawn."""
    if learns_initial(circuit):
        return circuit.with_initial_values(theta[INITIAL], weights, wiring)
    return weights, wiring
