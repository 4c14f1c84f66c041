"""Protocols of learners and of what moves their θ."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from metarule.protocols.tasks import TaskFamily
from metarule.types import Estimate, Info, Integer, LearnerState, Metrics, PRNGKey, StepOutput, Stimulus, Theta

__all__ = ["ChunkableLearner", "Estimator", "InitialInTheta", "InvertibleLearner", "Learner", "MetaOptimizer"]
__all__ += ["Sampling", "WorkingSet"]


@runtime_checkable
class Learner(Protocol):
    """One network that learns one task in one lifetime; `Lifetime` makes it of a rule, a circuit and a task family."""

    @property
    def steps(self) -> int:
        """Length of the lifetime."""

    @property
    def tasks(self) -> TaskFamily:
        """Task family."""

    def with_steps(self, steps: int) -> "Learner":
        """Copy with a lifetime of another length."""

    def init_theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""

    def theta_scale(self) -> Theta:
        """Natural size of each parameter, shaped as θ."""

    def init(self, theta: Theta, key: PRNGKey, task: Any) -> tuple[Any, Any]:
        """Draw a fresh network for a task: (constants of its lifetime, initial state).

        Both depend on θ where initial weights are meta-learned.
        """

    def stimulus(self, context: Any, t: Integer) -> Stimulus:
        """Stimulus at step t."""

    def step(self, theta: Theta, context: Any, state: Any, stimulus: Stimulus) -> tuple[Any, StepOutput]:
        """Compute the response to a stimulus, then change the weights."""

    def evaluate(self, theta: Theta, context: Any, state: Any) -> tuple[Float[Array, ""], Metrics]:
        """Final share of the meta-loss and the metrics, with plasticity off."""


@runtime_checkable
class InvertibleLearner(Learner, Protocol):
    """A learner whose steps may be inverted: the weights before a step are reconstructed from those after it."""

    @property
    def invertible(self) -> bool:
        """True if steps can be inverted."""

    def step_with_record(self, theta: Theta, context: Any, state: Any, stimulus: Stimulus) -> tuple[Any, Any, Any]:
        """Do as `step`, and also return the record that `invert_step` needs."""

    def invert_step(self, theta: Theta, state: LearnerState, record: Any) -> LearnerState:
        """State before a step from that after it, if no weight was clipped at its bound."""

    def recorded_potentials(self, record: Any) -> list[Array]:
        """Potentials in a record, by which a reconstruction is verified."""

    def at_bound(self, state: LearnerState) -> Bool[Array, ""]:
        """True if any weight is at its bound."""

    def without_bound(self) -> "InvertibleLearner":
        """Copy whose weights are not bounded."""


@runtime_checkable
class ChunkableLearner(Learner, Protocol):
    """A learner whose steps may be computed in chunks; the first projection changes once a chunk."""

    @property
    def chunkable(self) -> bool:
        """True if steps can be computed in chunks."""

    def run_chunk(
        self, theta: Theta, context: Any, state: LearnerState, ts: Int[Array, " n"]
    ) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
        """State after the steps `ts`, the sum of their losses, and true if both are certainly exact."""


@runtime_checkable
class Sampling(Protocol):
    """A learner that may sample, such as actions; `step` then returns the logarithm of the probability."""

    @property
    def samples(self) -> bool:
        """True if it samples."""


@runtime_checkable
class InitialInTheta(Protocol):
    """A learner whose initial weights may be a part of θ, so that the state before the first step depends on θ."""

    @property
    def learns_initial(self) -> bool:
        """True if they are."""


@runtime_checkable
class Estimator(Protocol):
    """A method that estimates the θ-gradient of the meta-loss on one task."""

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Any:
        """State that persists between meta-steps; `()` for none."""

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimate meta-loss and θ-gradient on one task; a meta-step vmaps this over its lifetimes."""


@runtime_checkable
class WorkingSet(Protocol):
    """An estimator that touches less memory per step than the learner's state."""

    def working_set(self, learner: Learner, state: Any) -> Any:
        """Arrays (or their shapes) that one step of one lifetime touches."""


@runtime_checkable
class MetaOptimizer(Protocol):
    """A method that moves θ; `metarule.meta.train` also needs `steps`, its number of meta-steps."""

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> Any:
        """State before the first meta-step."""

    def step(self, learner: Learner, pool: Any, state: Any, key: PRNGKey) -> tuple[Any, Info]:
        """Take one meta-step on tasks of a pool."""

    def theta(self, state: Any) -> Theta:
        """θ of a state."""
