"""Facts about functions that are found by tracing them."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import jax
from jax.interpreters import partial_eval as pe

__all__ = ["memoised", "reads", "returns_as_is"]


def memoised(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of components so that it is computed once for equal arguments.

    Components that hold traced numbers are not hashable; for these it is computed anew.
    """
    cached = lru_cache(maxsize=1024)(function)

    @wraps(function)
    def call(*components: Any) -> Any:
        try:
            hash(components)
        except TypeError:
            return function(*components)
        return cached(*components)

    return call


def reads(function: Callable[..., Any], *shapes: Any) -> list[bool]:
    """Find on which arrays among its arguments, or their shapes, a function depends: one truth value a leaf."""
    jaxpr = jax.make_jaxpr(function)(*shapes).jaxpr
    return pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1]


def returns_as_is(function: Callable[..., Any], *shapes: Any) -> bool:
    """True if a function of arguments of some shapes returns the first of them, leaf by leaf, unchanged."""
    jaxpr = jax.make_jaxpr(function)(*shapes).jaxpr
    first = jaxpr.invars[: len(jax.tree.leaves(shapes[0]))]
    return [*map(id, first)] == [*map(id, jaxpr.outvars)]
