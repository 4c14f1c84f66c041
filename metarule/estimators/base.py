"""Facts about estimators, with defaults for the abilities that an estimator lacks."""

from typing import Any, Protocol, runtime_checkable

from metarule.parallel.batching import default_chunk_size
from metarule.protocols import Estimator, Learner, WorkingSet
from metarule.types import LearnerState

__all__ = ["Antithetic", "Windowed", "gradient_chunk_size", "lifetimes_per_estimate"]


@runtime_checkable
class Antithetic(Protocol):
    """An estimator that runs antithetic pairs of lifetimes for an estimate; other estimators run one lifetime."""

    @property
    def pairs(self) -> int:
        """Number of pairs."""


@runtime_checkable
class Windowed(Protocol):
    """An estimator of a window of a lifetime; the meta-losses of two meta-steps are not comparable then."""

    @property
    def window(self) -> int:
        """Steps of the window."""


def lifetimes_per_estimate(estimator: Estimator) -> int:
    """Lifetimes that one estimate costs, at most."""
    return 2 * estimator.pairs if isinstance(estimator, Antithetic) else 1


def gradient_chunk_size(estimator: Estimator, learner: Learner, state: LearnerState) -> Any:
    """Choose the most lifetimes of a chunk, from an initial state or its shapes."""
    touched = estimator.working_set(learner, state) if isinstance(estimator, WorkingSet) else state
    return default_chunk_size(touched)
