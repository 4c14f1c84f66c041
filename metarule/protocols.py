"""Protocols of components: rules, circuits, task families, learners, estimators and meta-optimisers.

A component is anything that satisfies its protocol; there is no base class and no registry. Components are hashable and
hold hyper-parameters only. θ, weights, tasks and states are pytrees of arrays and are passed as arguments.

Each protocol has few required members. Optional abilities are protocols of their own; the library asks for them with
`isinstance`.
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
    LifetimeContext,
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

__all__ = [
    "Activated",
    "AffineInWeight",
    "Chunkable",
    "ChunkableLearner",
    "Circuit",
    "Described",
    "Estimator",
    "Factored",
    "HasEquation",
    "HasMemory",
    "HasTaskIds",
    "InRounds",
    "InitialWeights",
    "InvertibleLearner",
    "Learner",
    "Loss",
    "MatrixForm",
    "MetaOptimizer",
    "MinimumLength",
    "PartlyPlastic",
    "Paths",
    "PrimaryMetric",
    "Rule",
    "Scaled",
    "Sized",
    "TaskFamily",
    "WorkingSet",
]

# --- Rules


@runtime_checkable
class Rule(Protocol):
    """Δw = f(local variables; θ), the same function at every synapse."""

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Compute Δw of one synapse and its memory after the step."""


@runtime_checkable
class HasMemory(Protocol):
    """A rule whose synapses have a memory; other rules are given `()`."""

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Shaped[Array, "..."]]:
        """Initial memory of each synapse."""


@runtime_checkable
class MatrixForm(Protocol):
    """A rule with a fast form for a whole projection, equal to `delta` at each of its synapses."""

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """Compute ΔW of a projection and its memory after the step."""


@runtime_checkable
class Scaled(Protocol):
    """A rule with a parameter scale; that of other rules is 1."""

    def scale(self) -> Theta:
        """Natural size of each parameter, shaped as θ; meta-optimisers use it as preconditioner."""


@runtime_checkable
class Described(Protocol):
    """A rule whose parameters have names; those of other rules are named by their place in θ."""

    def describe(self, theta: Theta) -> Mapping[str, Float[Array, ""]]:
        """Parameters by name."""


@runtime_checkable
class HasEquation(Protocol):
    """A rule that can be written as an equation."""

    def equation(self, theta: Theta) -> str:
        """The rule as one line that begins with `Δw = `."""


@runtime_checkable
class Factored(Protocol):
    """A rule whose ΔW may consist of `Parts`; then steps can be computed in chunks."""

    @property
    def factored(self) -> bool:
        """Whether ΔW consists of parts."""

    def parts(self, theta: Theta, projection: Synapse) -> Parts:
        """Parts of ΔW of a projection."""


@runtime_checkable
class AffineInWeight(Protocol):
    """A rule whose Δw may be affine in the weight; then steps can be inverted."""

    @property
    def affine(self) -> bool:
        """Whether Δw is affine in the weight."""


# --- Circuits


@runtime_checkable
class Circuit(Protocol):
    """Neurons and projections: who is wired to whom, and which local variables each synapse sees."""

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Any, Any]:
        """Draw (weights of the projections, constant wiring, initial state)."""

    def step(self, weights: Weights, wiring: Any, state: Any, stimulus: Stimulus) -> CircuitStep:
        """Compute the response to one stimulus."""


@runtime_checkable
class Activated(Protocol):
    """A circuit whose output neurons have a named activation, so that it is checked against the loss."""

    @property
    def output(self) -> str:
        """Activation of the output neurons, by name."""


@runtime_checkable
class Sized(Protocol):
    """A circuit that may be made for a fixed number of inputs and outputs."""

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers of inputs and outputs; None where any are possible."""


@runtime_checkable
class Paths(Protocol):
    """A circuit whose projections belong to named paths; other circuits have one path."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each projection, such as forward or feedback."""


@runtime_checkable
class PartlyPlastic(Protocol):
    """A circuit with projections that the rule does not change."""

    @property
    def plastic(self) -> tuple[bool, ...]:
        """True if each projection is plastic."""


@runtime_checkable
class Chunkable(Protocol):
    """A circuit whose `step` may be computed in chunks.

    Its first projection then reads the stimulus only, and the weights of that projection make potentials only, so that
    `step` also accepts a first weight matrix with one row a step of a chunk, and a one-hot input.
    """

    @property
    def chunkable(self) -> bool:
        """True if steps can be computed in chunks."""


# --- Tasks


@runtime_checkable
class Loss(Protocol):
    """Loss of one output, and the output activation that it is made for."""

    @property
    def activation(self) -> str:
        """Activation of the output neurons, by name."""

    def __call__(self, output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
        """Loss of one output."""


@runtime_checkable
class TaskFamily(Protocol):
    """A distribution over learning problems. Tasks of a pool are numbered from 0."""

    @property
    def inputs(self) -> int:
        """Number of input neurons."""

    @property
    def outputs(self) -> int:
        """Number of output neurons."""

    @property
    def loss(self) -> Callable[[Float[Array, " outputs"], Float[Array, " targets"]], Float[Array, ""]]:
        """Loss of one output; a `Loss` is also checked against the circuit."""

    def split(self, seed: Integer) -> Split:
        """Split the tasks into two disjoint pools; the seed may be traced."""

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Any:
        """Task number `index` of a pool; the key draws incidentals such as the order of stimuli."""

    def stimulus(self, task: Any, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus at step t."""

    def examples(self, task: Any) -> Stimulus:
        """Batch on which the final network is evaluated."""

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """Metrics of a network from its outputs to the evaluation batch, all finite for finite outputs."""


@runtime_checkable
class PrimaryMetric(Protocol):
    """A task family that names the metric to quote; other families quote the first of `metrics`."""

    @property
    def primary_metric(self) -> str:
        """Name of the metric, which lies between 0 and 1; larger is better."""


@runtime_checkable
class MinimumLength(Protocol):
    """A task family whose tasks need a minimum number of steps; other families need 1."""

    @property
    def min_steps(self) -> int:
        """Steps that a lifetime has at least."""


@runtime_checkable
class InRounds(Protocol):
    """A task family that shows one example of each class in every round."""

    @property
    def round_steps(self) -> int:
        """Steps of a round."""


@runtime_checkable
class HasTaskIds(Protocol):
    """A task family in which two numbers may stand for the same task; in other families they do not."""

    def task_id(self, pool: Any, index: Integer) -> Integer:
        """Number that two tasks of a pool share if they differ only in labels, order or examples."""


@runtime_checkable
class InitialWeights(Protocol):
    """A task family whose tasks give the initial weights, such as those of a recorded network."""

    def initial_weights(self, task: Any, weights: Weights) -> Weights:
        """Initial weights for a task, from those that the circuit has drawn."""


# --- Learners


@runtime_checkable
class Learner(Protocol):
    """A learner that learns one task in one lifetime; estimators differentiate it."""

    @property
    def steps(self) -> int:
        """Length of the lifetime."""

    @property
    def tasks(self) -> TaskFamily:
        """Task family."""

    def with_steps(self, steps: int) -> "Learner":
        """Copy of the learner with a lifetime of another length."""

    def init_theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""

    def theta_scale(self) -> Theta:
        """Natural size of each parameter, shaped as θ."""

    def init(self, key: PRNGKey, task: Any) -> tuple[LifetimeContext, LearnerState]:
        """Draw a fresh network for a task."""

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """Stimulus at step t."""

    def step(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput]:
        """Present a stimulus, then change the weights."""

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """Final share of the meta-loss and the metrics, with plasticity off."""


@runtime_checkable
class InvertibleLearner(Learner, Protocol):
    """A learner whose steps may be inverted: the weights before a step are reconstructed from those after it."""

    @property
    def invertible(self) -> bool:
        """True if steps can be inverted."""

    def step_with_record(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput, Any]:
        """Do as `step`, and record what `invert_step` needs."""

    def invert_step(self, theta: Theta, state: LearnerState, record: Any) -> LearnerState:
        """State before a step from that after it, if no weight was clipped at its bound."""

    def recorded_potentials(self, record: Any) -> list[Array]:
        """Potentials in a record, by which a reconstruction is verified."""

    def at_bound(self, state: LearnerState) -> Bool[Array, ""]:
        """True if any weight is at its bound."""

    def without_bound(self) -> "InvertibleLearner":
        """Copy of the learner whose weights are not bounded."""


@runtime_checkable
class ChunkableLearner(Learner, Protocol):
    """A learner whose steps may be computed in chunks: the first projection changes once a chunk."""

    @property
    def chunkable(self) -> bool:
        """True if steps can be computed in chunks."""

    def run_chunk(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, ts: Int[Array, " n"]
    ) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
        """State after a chunk, the loss along it, and whether the result is certainly exact."""


# --- Meta-optimisation


@runtime_checkable
class Estimator(Protocol):
    """A method that estimates the θ-gradient of the meta-loss on one task."""

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Any:
        """State that persists between meta-steps; `()` for none."""

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimate meta-loss and θ-gradient on one task."""


@runtime_checkable
class WorkingSet(Protocol):
    """An estimator that touches less memory per step than the learner's state."""

    def working_set(self, learner: Learner, state: LearnerState) -> Any:
        """Arrays (or their shapes) that one step of one lifetime touches."""


@runtime_checkable
class MetaOptimizer(Protocol):
    """A method that moves θ."""

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> Any:
        """State before the first meta-step."""

    def step(self, learner: Learner, pool: Any, state: Any, key: PRNGKey) -> tuple[Any, Info]:
        """Take one meta-step on tasks of a pool."""

    def theta(self, state: Any) -> Theta:
        """θ of a state."""
