"""Names of the parameters of a θ of any structure."""

import jax
import numpy as np
from jaxtyping import Array, Float

from metarule.types import Theta

__all__ = ["by_name"]


def by_name(theta: Theta) -> dict[str, Float[Array, ""]]:
    """Name every parameter by its path, such as `rate`, `layers.0.bias[3]` or, for an array, `θ[0]`.

    Args:
        theta: θ.

    Returns:
        Scalars by name.
    """
    named = {}
    for path, leaf in jax.tree.leaves_with_path(theta):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "θ"
        for index in np.ndindex(leaf.shape):
            named[name + (f"[{','.join(map(str, index))}]" if index else "")] = leaf[index]
    return named
