"""Lives side by side, as many at once as a processor can well keep in mind."""

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["abreast", "block_size"]

# Weights of so many bytes are worked on together: what they need stays in the cache that a core has for itself.
_BLOCK_BYTES = 2**18


def abreast(form: Callable[..., Any], block: int) -> Callable[..., Any]:
    """`vmap`, some lives at a time.

    Args:
        form: of one life; its arguments are mapped over their leading axis.
        block: lives at a time, as from `block_size`.

    Returns:
        The function of many lives.
    """

    def many(*given: Any) -> Any:
        if jax.tree.leaves(given)[0].shape[0] <= block:
            return jax.vmap(form)(*given)
        return jax.lax.map(lambda own: form(*own), given, batch_size=block)

    return many


def block_size(carry: Any, lives: int) -> int:
    """Lives that are best lived at a time: on CPUs so many that their weights stay in a core's cache; all elsewhere.

    Args:
        carry: state of one life, or its shapes.
        lives: how many there are.

    Returns:
        A number that divides them, unless none does that is near to the best: the rest is a program of its own.
    """
    if jax.default_backend() != "cpu":
        return lives
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))
    best = min(max(_BLOCK_BYTES // max(size, 1), 1), lives)
    return next((block for block in range(best, best // 2, -1) if lives % block == 0), best)
