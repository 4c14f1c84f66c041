"""From one synapse to a whole projection, and from a small class to a whole rule."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct

from metarule.prng import run_key
from metarule.rules.naming import by_name
from metarule.types import PRNGKey, PyTree, Synapse, Theta

__all__ = ["POST_SIDE", "PRE_SIDE", "Lifted", "lift"]

Delta = Callable[[Theta, Any, Synapse], tuple[Float[Array, ""], Any]]
Update = Callable[[Theta, Any, Synapse], tuple[Float[Array, "pre post"], Any]]

PRE_SIDE = ("pre", "pre_trace")
POST_SIDE = ("post", "potential", "modulator", "post_trace")

_OVER_PRE = Synapse(*(0 if name in (*PRE_SIDE, "weight") else None for name in Synapse._fields))  # type: ignore[arg-type]
_OVER_POST = Synapse(*(0 if name in (*POST_SIDE, "weight") else None for name in Synapse._fields))  # type: ignore[arg-type]


def lift(delta: Delta) -> Update:
    """Apply the rule of one synapse to every synapse of a projection.

    A rule of one's own needs `delta` alone; its `update` is `lift(self.delta)(theta, memory, projection)`.

    Args:
        delta: (θ, memory, synapse) → (Δw, memory), on scalars.

    Returns:
        (θ, memory, projection) → (ΔW [pre, post], memory), on arrays.
    """
    return jax.vmap(jax.vmap(delta, in_axes=(None, 0, _OVER_POST)), in_axes=(None, 0, _OVER_PRE))


class Lifted(Struct, frozen=True):
    """A small class of one's own as a whole rule.

    The class has `init(key) → θ` and `delta(theta, memory, synapse) → (Δw, memory)`, on scalars. Whatever else of a
    rule it has is used: `variables`, `affine`, `scale`, `memory`, `update`, `describe`, `equation`. Otherwise every
    unit is 1, nothing is remembered, `update` is `lift(delta)`, and the numbers of θ are named by their place in it.

    Attributes:
        rule: an instance; a frozen dataclass or Struct, so that it is hashable.

    Raises:
        ValueError: something that is no such instance.
    """

    rule: Any

    def __post_init__(self) -> None:
        if isinstance(self.rule, type):
            raise ValueError(f"{self.rule.__name__} is a class; give an instance, as in Lifted({self.rule.__name__}())")
        for method in ("init", "delta"):
            if not callable(getattr(self.rule, method, None)):
                raise ValueError(f"{self._name} has no method '{method}'")
        try:
            hash(self.rule)
        except TypeError as error:
            raise ValueError(f"{self._name} is not hashable; make it a frozen dataclass or Struct") from error

    @property
    def variables(self) -> tuple[str, ...]:
        """Fields of `Synapse` that the rule looks at; where it does not say, those that its Δw is computed from."""
        return tuple(getattr(self.rule, "variables", None) or self._traced_variables())

    @property
    def affine(self) -> bool:
        """Whether Δw is affine in the weight, so that a step can be undone; not unless the rule says so."""
        return bool(getattr(self.rule, "affine", False))

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""
        return self.rule.init(key)

    def scale(self) -> Theta:
        """Natural size of each number of θ."""
        shapes = jax.eval_shape(self.rule.init, run_key(0))
        return self._own("scale", lambda: jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes))()

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Float[Array, "..."]]:
        """What each synapse remembers at birth."""
        return self._own("memory", lambda weight: ())(weight)

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Δw of one synapse, and its memory afterwards."""
        return self.rule.delta(theta, memory, synapse)

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """ΔW of a whole projection."""
        return self._own("update", lift(self.rule.delta))(theta, memory, projection)

    def describe(self, theta: Theta) -> Mapping[str, Float[Array, ""]]:
        """The numbers of θ by name."""
        return self._own("describe", by_name)(theta)

    def equation(self, theta: Theta) -> str:
        """The rule in one line."""
        return self._own("equation", lambda theta: f"Δw = {self._name}(θ)")(theta)

    @property
    def _name(self) -> str:
        return type(self.rule).__name__

    def _own(self, method: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        return getattr(self.rule, method, otherwise)

    def _traced_variables(self) -> list[str]:
        scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
        theta = jax.eval_shape(self.rule.init, run_key(0))
        memory = jax.eval_shape(self.memory, scalar)
        synapse = Synapse(*(scalar for _ in Synapse._fields))  # type: ignore[arg-type]
        jaxpr = jax.make_jaxpr(self.rule.delta)(theta, memory, synapse).jaxpr
        used = {id(var) for var in [*jaxpr.outvars, *(var for step in jaxpr.eqns for var in step.invars)]}
        seen = zip(Synapse._fields, jaxpr.invars[-len(Synapse._fields) :], strict=True)
        return [name for name, var in seen if id(var) in used]
