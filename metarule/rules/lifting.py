"""From one synapse to a whole projection."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from metarule.types import Synapse, Theta

__all__ = ["lift"]

Delta = Callable[[Theta, Any, Synapse], tuple[Float[Array, ""], Any]]
Update = Callable[[Theta, Any, Synapse], tuple[Float[Array, "pre post"], Any]]

_ALONG_PRE = ("pre", "pre_trace", "weight")
_ALONG_POST = ("post", "potential", "weight", "modulator", "post_trace")
_OVER_PRE = Synapse(*(0 if name in _ALONG_PRE else None for name in Synapse._fields))  # type: ignore[arg-type]
_OVER_POST = Synapse(*(0 if name in _ALONG_POST else None for name in Synapse._fields))  # type: ignore[arg-type]


def lift(delta: Delta) -> Update:
    """Apply the rule of one synapse to every synapse of a projection.

    A rule of one's own needs `delta` alone; its `update` is `lift(self.delta)(theta, memory, projection)`.

    Args:
        delta: (θ, memory, synapse) → (Δw, memory), on scalars.

    Returns:
        (θ, memory, projection) → (ΔW [pre, post], memory), on arrays.
    """
    return jax.vmap(jax.vmap(delta, in_axes=(None, 0, _OVER_POST)), in_axes=(None, 0, _OVER_PRE))
