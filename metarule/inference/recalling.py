"""Results that a stopped inference recalls when it goes on."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["Arrays", "Recall", "compute_anew"]

Arrays: TypeAlias = Mapping[str, Any]
# From the name of a result and a function that computes it to its arrays, computed or recalled.
Recall: TypeAlias = Callable[[str, Callable[[], Arrays]], Arrays]


def compute_anew(name: str, compute: Callable[[], Arrays]) -> Arrays:
    """Compute a result, without recalling any."""
    return compute()
