"""How lives that are lived side by side lie in memory."""

from collections.abc import Callable
from math import ceil
from typing import Any

import jax
from jax.custom_batching import custom_vmap

from metarule.types import Carry, Life, Theta

__all__ = ["abreast"]

# Weights of so many bytes are worked on together: what they need stays in the cache that a core has for itself.
_BLOCK_BYTES = 2**18

Form = Callable[[Theta, Life, Carry], Any]


def abreast(form: Form) -> Form:
    """The same function of one life; where `vmap` makes it one of many on a CPU, lives are taken in blocks.

    The weights of a block stay in a core's own cache from one presentation to the next.

    Args:
        form: of θ, the constant part of a life and the state at its start.

    Returns:
        The function; under `vmap` it cannot be differentiated again.
    """
    if jax.default_backend() != "cpu":
        return form
    blockwise = custom_vmap(form)

    @blockwise.def_vmap
    def in_blocks(count: int, batched: list[Any], *given: Any) -> tuple[Any, Any]:
        leaves, tree = jax.tree.flatten(given)
        each = jax.tree.leaves(batched)

        def one(own: list[Any]) -> Any:
            mine = iter(own)
            return form(*jax.tree.unflatten(tree, [next(mine) if yes else leaf for yes, leaf in zip(each, leaves)]))

        own = [leaf for yes, leaf in zip(each, leaves) if yes]
        if not own:  # when derivatives alone are many
            out = form(*given)
            return out, jax.tree.map(lambda _: False, out)
        out = jax.lax.map(one, own, batch_size=_block(count, sum(weight.nbytes for weight in given[-1].weights)))
        return out, jax.tree.map(lambda _: True, out)

    return blockwise


def _block(count: int, size: int) -> int:
    """Lives in a block, all blocks being of about the same size; their weights have so many bytes in all."""
    largest = max(1, count * _BLOCK_BYTES // size)
    return ceil(count / ceil(count / largest))
