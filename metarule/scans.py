"""How the time loop is differentiated: each scan is called as `lax.scan` is, `(body, carry, xs) → (carry, ys)`."""

from collections.abc import Callable
from typing import Any

import jax
from msgspec import Struct

__all__ = ["Plain", "Remat"]


class Plain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="plain"):
    """`lax.scan` as it is: every intermediate of every step is kept for the backward pass.

    Memory O(T · intermediates), one forward pass. Pick it for short lives.
    """

    def __call__(self, body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return jax.lax.scan(body, carry, xs)


class Remat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="remat"):
    """Keep the carry of each step alone, and recompute the step in the backward pass.

    Memory O(T · carry), two forward passes. Pick it unless the weights of T steps do not fit into memory.
    """

    def __call__(self, body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
        """Run `body` over the leading axis of `xs`."""
        return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), carry, xs)
