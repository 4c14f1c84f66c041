"""How many θ-gradients are found side by side."""

from typing import Any

from metarule.parallel.batching import block_size
from metarule.types import Estimator, Learner

__all__ = ["at_once"]


def at_once(estimator: Estimator, learner: Learner, carry: Any) -> int:
    """Lives whose θ-gradients are best found side by side on one device.

    Args:
        estimator: that finds them; it says by `touched` what it goes over at each presentation, unless that is `carry`.
        learner: who lives.
        carry: shapes of the state of one life.

    Returns:
        Their number, at most.
    """
    touched = getattr(estimator, "touched", lambda learner, carry: carry)
    return block_size(touched(learner, carry))
