"""Facts about estimators, with defaults for the abilities that an estimator lacks."""

from typing import Any, Protocol, runtime_checkable

from metarule.config.schema import Checked
from metarule.parallel.batching import default_chunk_size
from metarule.protocols import Estimator, InitialInTheta, Learner, WorkingSet
from metarule.types import LearnerState

__all__ = ["Antithetic", "Windowed", "check_estimator", "gradient_chunk_size", "lifetimes_per_estimate"]


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


def check_estimator(estimator: Estimator, learner: Learner) -> None:
    """Refuse an estimator of windows where initial weights are learned, because only the first window depends on them.

    Raises:
        ValueError: naming the estimator and what is allowed.
    """
    if isinstance(estimator, Windowed) and isinstance(learner, InitialInTheta) and learner.learns_initial:
        kind = estimator.__struct_config__.tag if isinstance(estimator, Checked) else type(estimator).__name__
        raise ValueError(
            f"optimizer.estimator.kind = '{kind}': initial weights are learned; allowed: reverse, forward, evolution, "
            "auto"
        )


def lifetimes_per_estimate(estimator: Estimator) -> int:
    """Lifetimes that one estimate costs, at most."""
    return 2 * estimator.pairs if isinstance(estimator, Antithetic) else 1


def gradient_chunk_size(estimator: Estimator, learner: Learner, state: LearnerState) -> Any:
    """Choose the most lifetimes of a chunk, from an initial state or its shapes."""
    touched = estimator.working_set(learner, state) if isinstance(estimator, WorkingSet) else state
    return default_chunk_size(touched)
