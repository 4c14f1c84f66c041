"""How many θ-gradients are found side by side."""

from typing import Any

from metarule.parallel.batching import default_chunk_size
from metarule.types import Estimator, Learner

__all__ = ["chunk_size"]


def chunk_size(estimator: Estimator, learner: Learner, state: Any) -> int:
    """Lifetimes whose θ-gradients are best found side by side on one device.

    Args:
        estimator: that finds them; it says by `touched` what it goes over at each step, unless that is `carry`.
        learner: who lives.
        carry: shapes of the state of one lifetime.

    Returns:
        Their number, at most.
    """
    touched = getattr(estimator, "touched", lambda learner, state: state)
    return default_chunk_size(touched(learner, state))
