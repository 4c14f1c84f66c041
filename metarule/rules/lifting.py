"""From one synapse to a whole projection, and from a rule with two methods to a complete one."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped
from msgspec import Struct

from metarule.prng import run_key
from metarule.protocols import Described, HasEquation, HasMemory, MatrixForm, Rule, Scaled
from metarule.tracing import memoised, reads
from metarule.types import PRNGKey, Synapse, Theta

__all__ = ["POST_SIDE", "PRE_SIDE", "CompleteRule", "Lifted", "by_name", "complete", "has_parameters", "lift"]
__all__ += ["local_variables"]

PRE_SIDE = ("pre", "pre_trace")
POST_SIDE = ("post", "potential", "modulator", "post_trace")
# Most parameters that an equation by default shows.
_SHOWN = 16

_OVER_PRE = Synapse(*(0 if name in (*PRE_SIDE, "weight") else None for name in Synapse._fields))  # type: ignore[arg-type]
_OVER_POST = Synapse(*(0 if name in (*POST_SIDE, "weight") else None for name in Synapse._fields))  # type: ignore[arg-type]


@runtime_checkable
class CompleteRule(Rule, HasMemory, MatrixForm, Scaled, Described, HasEquation, Protocol):
    """A rule with everything that a lifetime and a run ask for; `complete` makes one of any rule."""


def lift(
    delta: Callable[[Theta, Any, Synapse], tuple[Float[Array, ""], Any]],
) -> Callable[[Theta, Any, Synapse], tuple[Float[Array, "pre post"], Any]]:
    """Apply the rule of one synapse to every synapse of a projection.

    Args:
        delta: (θ, memory, synapse) → (Δw, memory), on scalars.

    Returns:
        (θ, memory, projection) → (ΔW [pre, post], memory), on arrays.
    """
    return jax.vmap(jax.vmap(delta, in_axes=(None, 0, _OVER_POST)), in_axes=(None, 0, _OVER_PRE))


class Lifted(Struct, frozen=True):
    """A rule completed with defaults for the abilities that it lacks.

    Attributes:
        rule: an instance with `init` and `delta`; a frozen dataclass or Struct, so that it is hashable.

    Raises:
        ValueError: an object that is no such instance.
    """

    rule: Rule

    def __post_init__(self) -> None:
        if isinstance(self.rule, type):
            raise ValueError(f"{self.rule.__name__} is a class; give an instance, as in {self.rule.__name__}()")
        name = type(self.rule).__name__
        for method in ("init", "delta"):
            if not callable(getattr(self.rule, method, None)):
                raise ValueError(f"{name} has no method '{method}'")
        try:
            hash(self.rule)
        except TypeError as error:
            raise ValueError(f"{name} is not hashable; make it a frozen dataclass or Struct") from error

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""
        return self.rule.init(key)

    def scale(self) -> Theta:
        """Natural size of each parameter."""
        if isinstance(self.rule, Scaled):
            return self.rule.scale()
        shapes = jax.eval_shape(self.rule.init, run_key(0))
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Shaped[Array, "..."]]:
        """Initial memory of each synapse."""
        return self.rule.memory(weight) if isinstance(self.rule, HasMemory) else ()

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Compute Δw of one synapse and its memory after the step."""
        return self.rule.delta(theta, memory, synapse)

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """Compute ΔW of a projection."""
        update = self.rule.update if isinstance(self.rule, MatrixForm) else lift(self.rule.delta)
        return update(theta, memory, projection)

    def describe(self, theta: Theta) -> Mapping[str, Float[Array, ""]]:
        """Parameters by name."""
        return self.rule.describe(theta) if isinstance(self.rule, Described) else by_name(theta)

    def equation(self, theta: Theta) -> str:
        """The rule as one line."""
        if isinstance(self.rule, HasEquation):
            return self.rule.equation(theta)
        values = [f"{name} = {float(value):.3g}" for name, value in self.describe(theta).items()]
        return f"Δw = {type(self.rule).__name__}({', '.join(values) if len(values) <= _SHOWN else 'θ'})"


@memoised
def complete(rule: Any) -> CompleteRule:
    """Complete a rule: the rule itself if it lacks nothing, else `Lifted(rule)`, which raises what that raises."""
    is_complete = isinstance(rule, CompleteRule) and not isinstance(rule, type)
    return rule if is_complete else Lifted(rule)


@memoised
def local_variables(rule: Any) -> tuple[str, ...]:
    """Find the local variables that a rule reads, fields of `Synapse`, by tracing its `delta`."""
    rule = complete(rule)
    scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
    theta, memory = jax.eval_shape(rule.init, run_key(0)), jax.eval_shape(rule.memory, scalar)
    synapse = Synapse(*(scalar for _ in Synapse._fields))  # type: ignore[arg-type]
    is_read = reads(rule.delta, theta, memory, synapse)[-len(Synapse._fields) :]
    return tuple(name for name, read in zip(Synapse._fields, is_read, strict=True) if read)


@memoised
def has_parameters(rule: Any) -> bool:
    """True if θ of a rule has at least one number."""
    return any(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(rule.init, run_key(0))))


def by_name(theta: Theta) -> dict[str, Float[Array, ""]]:
    """Name every parameter of a θ by its path, such as `rate`, `layers.0.bias[3]` or, for an array, `θ[0]`."""
    named = {}
    for path, leaf in jax.tree.leaves_with_path(theta):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "θ"
        for index in np.ndindex(leaf.shape):
            named[name + (f"[{','.join(map(str, index))}]" if index else "")] = leaf[index]
    return named
