"""One θ for all projections of a circuit, one for each path, or one for each projection."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import jax

from metarule.rules.lifting import CompleteRule
from metarule.types import Theta

__all__ = ["Sharing", "describe", "equation", "groups", "member"]

Sharing: TypeAlias = Literal["shared", "per_path", "per_projection"]

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def groups(sharing: Sharing, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the groups of projections that have a θ of their own; `()` where θ is shared."""
    if sharing == "shared":
        return ()
    numbered = [f"projection {number + 1}" for number in range(len(paths))]
    return tuple(dict.fromkeys(paths if sharing == "per_path" else numbered))


def member(theta: Theta, number: int) -> Theta:
    """θ of one group from a θ with a leading axis over groups."""
    return jax.tree.map(lambda leaf: leaf[number], theta)


def describe(rule: CompleteRule, names: tuple[str, ...], theta: Theta) -> Mapping[str, Any]:
    """Named parameters, by group where each group has its own."""
    if not names:
        return rule.describe(theta)
    return {name: rule.describe(member(theta, number)) for number, name in enumerate(names)}


def equation(rule: CompleteRule, sharing: Sharing, names: tuple[str, ...], theta: Theta) -> str:
    """The rule as one equation a θ."""
    if not names:
        return rule.equation(theta)
    labels = [f"Δw[{name}]" for name in names]
    if sharing == "per_projection":
        labels = [f"Δw{number + 1}".translate(_SUBSCRIPTS) for number in range(len(names))]
    return "\n".join(
        rule.equation(member(theta, number)).replace("Δw", label, 1) for number, label in enumerate(labels)
    )
