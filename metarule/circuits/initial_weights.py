"""Initial weights and fixed feedback weights as arrays by name, so that they may be part of θ.

References:
    Finn, Abbeel, Levine 2017 (meta-learned initial weights); Lindsey, Litwin-Kumar 2020 (meta-learned feedback
    weights).
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Array, Float

from metarule.types import Weights

__all__ = ["LEARNED", "Initial", "feedback_of", "named", "weights_of"]

Initial = Literal["random", "learned"]
LEARNED = "learned"


def named(weights: Weights, feedback: Sequence[Float[Array, "..."]] = ()) -> dict[str, Float[Array, "..."]]:
    """Arrays by name: `weights_0`, … of the projections, and `feedback_0`, … if there are fixed feedback weights."""
    return {f"weights_{n}": one for n, one in enumerate(weights)} | {
        f"feedback_{n}": one for n, one in enumerate(feedback)
    }


def weights_of(values: dict[str, Float[Array, "..."]]) -> Weights:
    """Weights by projection among arrays by name."""
    return _numbered(values, "weights")


def feedback_of(values: dict[str, Float[Array, "..."]]) -> Weights:
    """Fixed feedback weights among arrays by name."""
    return _numbered(values, "feedback")


def _numbered(values: dict[str, Float[Array, "..."]], name: str) -> Weights:
    return tuple(values[f"{name}_{n}"] for n in range(sum(key.startswith(f"{name}_") for key in values)))
