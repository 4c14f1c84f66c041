"""Parts that the batteries share."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

__all__ = ["Checks", "assert_equal_by_value", "assert_one_trace", "assert_precision", "named", "run_checks"]

Checks: TypeAlias = Mapping[str, Callable[[Any, int], None]]


def named(checks: Iterable[Callable[[Any, int], None]]) -> Checks:
    """List checks by the names of their functions, with spaces."""
    return {check.__name__.strip("_").replace("_", " "): check for check in checks}


def run_checks(subject: Any, known: Checks, names: Sequence[str] | None, seed: int, title: str) -> None:
    """Run checks of a component.

    Args:
        subject: passed to each check.
        known: checks by name.
        names: checks to run, all by default.
        seed: passed to each check.
        title: name of the component in messages.

    Raises:
        AssertionError: naming the component, the check that it fails, and how.
        RuntimeError: Python runs without assertions, so that nothing would be checked.
    """
    if not __debug__:
        raise RuntimeError("nothing is checked where Python leaves assertions out; run it without -O")
    for name in known if names is None else names:
        try:
            known[name](subject, seed)
        except Exception as error:  # a component may fail in any way
            raise AssertionError(f"{title} fails '{name}': {error}") from error


def assert_equal_by_value(component: Any) -> None:
    """Assert that a copy of a component is equal to it and has its hash."""
    twin = copy.copy(component)
    assert twin == component, "a copy of it is not equal to it"
    assert hash(twin) == hash(component), "a copy of it has another hash"


def assert_precision(results: Callable[[], Any]) -> None:
    """Assert that arrays have the precision that JAX is set to, single or double."""
    for double in (False, True):
        with jax.enable_x64(double):
            wanted = jnp.result_type(float)
            for leaf in jax.tree.leaves(results()):
                assert leaf.dtype == wanted, f"{leaf.dtype} where JAX is set to {wanted}"


@contextmanager
def assert_one_trace(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Assert that equal components share one compiled program.

    Args:
        function: a function of a component and arrays.

    Yields:
        The function, compiled, which passes on a copy of the component.
    """
    traces = []

    def traced(component: Any, *arrays: Any) -> Any:
        traces.append(component)
        return function(component, *arrays)

    compiled = jax.jit(traced, static_argnums=0)
    yield lambda component, *arrays: compiled(copy.copy(component), *arrays)
    assert len(traces) == 1, f"it was traced {len(traces)} times"
