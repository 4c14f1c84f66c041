"""Running checks by name."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["Checks", "assert_equal_by_value", "run_checks"]

Checks: TypeAlias = Mapping[str, Callable[[Any, int], None]]


def run_checks(subject: Any, known: Checks, names: Sequence[str] | None, seed: int, title: str = "") -> None:
    """Run checks of a component.

    Args:
        subject: passed to each check.
        known: checks by name.
        names: checks to run, all by default.
        seed: passed to each check.
        title: name of the component in messages; by default that of its class.

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
            raise AssertionError(f"{title or type(subject).__name__} fails '{name}': {error}") from error


def assert_equal_by_value(component: Any) -> None:
    """Assert that a copy of a component is equal to it and has its hash."""
    twin = copy.copy(component)
    assert twin == component, "a copy of it is not equal to it"
    assert hash(twin) == hash(component), "a copy of it has another hash"
