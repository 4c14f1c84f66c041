"""Protocols of components: rules, circuits, task families, learners, estimators and meta-optimisers.

A component is any frozen dataclass or Struct that satisfies its protocol. θ, weights, tasks and states are pytrees of
arrays and are passed as arguments. Methods are pure functions that JAX can trace. Optional abilities are protocols of
their own, with defaults. See `metarule.types` for arguments and results, and `metarule.testing` for checks.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from metarule.types import (
    CircuitStep,
    Estimate,
    Info,
    Integer,
    LearnerState,
    Metrics,
    Parts,
    PRNGKey,
    Split,
    StepOutput,
    Stimulus,
    Synapse,
    Theta,
    Weights,
)

__all__ = ["AffineInWeight", "Described", "Factored", "HasEquation", "HasMemory", "MatrixForm", "Rule", "Scaled"]
__all__ += ["Activated", "Chunkable", "Circuit", "PartlyPlastic", "Paths", "Sized"]
__all__ += ["HasTaskIds", "InRounds", "InitialWeights", "Loss", "MinimumLength", "PrimaryMetric", "TaskFamily"]
__all__ += ["ChunkableLearner", "Estimator", "InvertibleLearner", "Learner", "MetaOptimizer", "WorkingSet"]


@runtime_checkable
class Rule(Protocol):
    """Δw = f(local variables; θ), the same function at every synapse."""

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ, a pytree of any structure."""

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Compute Δw of one synapse, whose local variables are scalars, and its memory after the step."""


@runtime_checkable
class HasMemory(Protocol):
    """A rule whose synapses have a memory, such as a trace; without this ability it is `()`."""

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Shaped[Array, "..."]]:
        """Initial memory of one synapse, or of all synapses of a projection if the weight is a matrix."""


@runtime_checkable
class MatrixForm(Protocol):
    """A rule with a fast form for a projection, equal to `delta` at each of its synapses; by default `lift(delta)`."""

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """Compute ΔW of a projection and its memory after the step."""


@runtime_checkable
class Scaled(Protocol):
    """A rule with a parameter scale; by default it is 1."""

    def scale(self) -> Theta:
        """Natural size of each parameter, shaped as θ; meta-optimisers use it as preconditioner."""


@runtime_checkable
class Described(Protocol):
    """A rule that names its parameters; by default their names are their paths in θ, such as `rate` or `gains[0]`."""

    def describe(self, theta: Theta) -> Mapping[str, Float[Array, ""]]:
        """Parameters by name."""


@runtime_checkable
class HasEquation(Protocol):
    """A rule that can be written as an equation; by default it is `Δw = NameOfTheClass(parameters)`."""

    def equation(self, theta: Theta) -> str:
        """One line that begins with `Δw = `."""


@runtime_checkable
class Factored(Protocol):
    """A rule whose ΔW may consist of `Parts`; then steps can be computed in chunks."""

    @property
    def factored(self) -> bool:
        """True if ΔW consists of parts."""

    def parts(self, theta: Theta, projection: Synapse) -> Parts:
        """Compute the parts of ΔW of a projection."""


@runtime_checkable
class AffineInWeight(Protocol):
    """A rule whose Δw may be affine in the weight; then steps can be inverted."""

    @property
    def affine(self) -> bool:
        """True if Δw is affine in the weight."""


@runtime_checkable
class Circuit(Protocol):
    """Neurons and projections: who is wired to whom, and which local variables each synapse sees."""

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Any, Any]:
        """Draw (a weight matrix [pre, post] for each projection, constant wiring or `()`, initial state or `()`)."""

    def step(self, weights: Weights, wiring: Any, state: Any, stimulus: Stimulus) -> CircuitStep:
        """Compute the response to one stimulus, and what each synapse sees. Weights are changed by the rule only."""


@runtime_checkable
class Activated(Protocol):
    """A circuit that names the activation of its output neurons, so that it is checked against the loss."""

    @property
    def output(self) -> str:
        """Activation of the output neurons, such as `sigmoid`."""


@runtime_checkable
class Sized(Protocol):
    """A circuit that may have fixed numbers of inputs and outputs."""

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers of inputs and outputs; None if any are possible."""


@runtime_checkable
class Paths(Protocol):
    """A circuit whose projections are on named paths, each of which may have its own θ; by default all are on one."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each projection, such as `forward` or `feedback`."""


@runtime_checkable
class PartlyPlastic(Protocol):
    """A circuit with projections that the rule does not change; by default it changes all."""

    @property
    def plastic(self) -> tuple[bool, ...]:
        """One truth value for each projection."""


@runtime_checkable
class Chunkable(Protocol):
    """A circuit whose `step` may take a first weight matrix with one row a step of a chunk, and a one-hot input."""

    @property
    def chunkable(self) -> bool:
        """True if it does; its first projection reads the stimulus only, and its weights make potentials only."""


@runtime_checkable
class Loss(Protocol):
    """A loss that names the output activation that it is made for, so that the circuit is checked against it."""

    @property
    def activation(self) -> str:
        """Activation of the output neurons, such as `sigmoid`."""


@runtime_checkable
class TaskFamily(Protocol):
    """A distribution over learning problems."""

    @property
    def inputs(self) -> int:
        """Number of input neurons."""

    @property
    def outputs(self) -> int:
        """Number of output neurons."""

    @property
    def loss(self) -> Callable[[Float[Array, " outputs"], Float[Array, " targets"]], Float[Array, ""]]:
        """Function of one output and its target, in the form that `stimulus` gives; it may be a `Loss`."""

    def split(self, seed: Integer) -> Split:
        """Split the tasks into two disjoint pools, which are pytrees of arrays; the seed may be traced."""

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Any:
        """Sample task number `index` ≥ 0 of a pool; the key draws incidentals such as the order of stimuli."""

    def stimulus(self, task: Any, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus of step t ≥ 0; the key draws noise."""

    def examples(self, task: Any) -> Stimulus:
        """Batch of stimuli on which the network is evaluated, with plasticity off."""

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """Scalars by name from the outputs to `examples`, finite for finite outputs."""


@runtime_checkable
class PrimaryMetric(Protocol):
    """A task family that names the metric to quote; by default it is the first of `metrics`."""

    @property
    def primary_metric(self) -> str:
        """Name of a metric between 0 and 1; larger is better."""


@runtime_checkable
class MinimumLength(Protocol):
    """A task family whose tasks need a minimum number of steps; by default it is 1."""

    @property
    def min_steps(self) -> int:
        """Fewest steps of a lifetime."""


@runtime_checkable
class InRounds(Protocol):
    """A task family that shows one example of each class in every round."""

    @property
    def round_steps(self) -> int:
        """Steps of a round."""


@runtime_checkable
class HasTaskIds(Protocol):
    """A task family in which several numbers may stand for one task; by default each stands for another."""

    def task_id(self, pool: Any, index: Integer) -> Integer:
        """Number that tasks of a pool share if they differ only in labels, order or examples."""


@runtime_checkable
class InitialWeights(Protocol):
    """A task family whose tasks give the initial weights, such as those of a recorded network."""

    def initial_weights(self, task: Any, weights: Weights) -> Weights:
        """Initial weights for a task, in place of those that the circuit has drawn."""


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

    def init(self, key: PRNGKey, task: Any) -> tuple[Any, Any]:
        """Draw a fresh network for a task: (constants of its lifetime, initial state)."""

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
