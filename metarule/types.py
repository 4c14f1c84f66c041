"""Data and protocols that all packages share.

A component is anything that satisfies its protocol; there is no base class and no registry. Components are hashable and
hold hyper-parameters only. θ, weights, tasks and states are pytrees of arrays and are passed as arguments.

Each protocol has few required members. Optional abilities are protocols of their own; the library asks for them with
`isinstance`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jax import Array
from jax.tree_util import DictKey
from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped

__all__ = [
    "LOGITS",
    "STIMULI",
    "Activated",
    "AffineInWeight",
    "Chunkable",
    "ChunkableLearner",
    "Circuit",
    "CircuitStep",
    "Described",
    "Estimate",
    "Estimator",
    "Factored",
    "HasEquation",
    "HasMemory",
    "HasTaskIds",
    "InRounds",
    "Info",
    "InitialWeights",
    "Integer",
    "InvertibleLearner",
    "Learner",
    "LearnerState",
    "LifetimeContext",
    "Loss",
    "MatrixForm",
    "MetaOptimizer",
    "Metrics",
    "MinimumLength",
    "PRNGKey",
    "PartlyPlastic",
    "Parts",
    "Paths",
    "PrimaryMetric",
    "Rule",
    "Scaled",
    "ScanFn",
    "Sized",
    "Split",
    "StepOutput",
    "Stimulus",
    "Synapse",
    "TaskFamily",
    "Theta",
    "Weights",
    "WorkingSet",
]

# Stimuli of conditioning in the order of the sensory neurons: two conditioned ones and the unconditioned one.
STIMULI = ("CS1", "CS2", "US")

# Key under which θ holds the logits of its decays: a logit of 0 is a decay of ½, not a shorter or weaker rule.
LOGITS = DictKey("logit_decay")

PRNGKey = Key[Array, ""]
Integer = int | Int[Array, ""]
Scalar = Float[Array, ""]
Theta: TypeAlias = PyTree[Float[Array, "..."]]
Metrics = dict[str, Float[Array, ""]]
Weights = tuple[Float[Array, "_ _"], ...]
ScanFn = Callable[[Callable[[Any, Any], tuple[Any, Any]], Any, Any], tuple[Any, Any]]


class Synapse(NamedTuple):
    """Local variables of a synapse, or of all synapses of a projection.

    For one synapse all fields are scalars. For a projection `pre` and `pre_trace` are [pre], `weight` is [pre, post],
    `neuromodulator` is a scalar and the others are [post]. A variable that a circuit does not offer is None.

    Attributes:
        pre: activity of the presynaptic neuron.
        post: activity of the postsynaptic neuron.
        potential: potential of the postsynaptic neuron.
        weight: weight of the synapse.
        modulator: activity of the modulatory (facilitatory) neuron that acts on the synapse.
        pre_trace: recent activity of the presynaptic neuron, without the present step.
        post_trace: recent activity of the postsynaptic neuron, without the present step.
        neuromodulator: concentration of the diffuse neuromodulator, the same at all synapses.
    """

    pre: Float[Array, "*pre"]
    post: Float[Array, "*post"]
    potential: Float[Array, "*post"]
    weight: Float[Array, "*synapse"]
    modulator: Float[Array, "*post"]
    pre_trace: Float[Array, "*pre"] | None = None
    post_trace: Float[Array, "*post"] | None = None
    neuromodulator: Float[Array, ""] | None = None


class Stimulus(NamedTuple):
    """Input of one step, or of a batch of steps along a leading axis.

    Attributes:
        input: activity of the input neurons [*batch, inputs].
        target: wanted activity of the output neurons, in the form that the loss reads [*batch, targets].
        observed: recorded activity that the output is compared with, where a task has recordings.
        reward: reward at this step, where a task gives one.
        plasticity: gate g of the plastic change, w ← w + g·Δw; None for 1.
    """

    input: Float[Array, "*batch inputs"]
    target: Float[Array, "*batch targets"]
    observed: Float[Array, "..."] | None = None
    reward: Float[Array, "*batch"] | None = None
    plasticity: Float[Array, "*batch"] | None = None


class CircuitStep(NamedTuple):
    """Result of one step of a circuit, before its weights change.

    Attributes:
        state: state of the circuit after the step.
        output: activity of the output neurons [outputs].
        synapses: local variables, one entry a projection.
        activity: activity of all neurons but the inputs, one array a layer or population.
    """

    state: Any
    output: Float[Array, " outputs"]
    synapses: tuple[Synapse, ...]
    activity: tuple[Float[Array, " _"], ...] = ()


class Split(NamedTuple):
    """Two pools of tasks, disjoint unless their family is asked to hold none out.

    Pools are data: the seed that decides them may be traced or vmapped.

    Attributes:
        train: tasks for meta-training.
        test: held-out tasks.
    """

    train: PyTree[Shaped[Array, "..."]]
    test: PyTree[Shaped[Array, "..."]]


class LifetimeContext(NamedTuple):
    """Constants of a lifetime. The scan closes over them, because it copies everything that it carries.

    Attributes:
        task: the task, in the form of its family.
        wiring: what the circuit draws once and does not change, such as random feedback weights.
        key: source of randomness of the stimuli.
    """

    task: PyTree[Shaped[Array, "..."]]
    wiring: PyTree[Float[Array, "..."]]
    key: PRNGKey


class LearnerState(NamedTuple):
    """State that a learner carries from one step to the next.

    Attributes:
        weights: one matrix [pre, post] a projection.
        memory: memory of the rule at each synapse, one entry a projection.
        circuit: state of the circuit.
    """

    weights: Weights
    memory: tuple[PyTree[Float[Array, "..."]], ...]
    circuit: PyTree[Float[Array, "..."]]


class StepOutput(NamedTuple):
    """Observables of one step.

    Attributes:
        loss: share of the meta-loss; the loss of a lifetime is the sum of these and of the final evaluation.
        output: activity of the output neurons before the weights changed [outputs].
        activity: as in `CircuitStep`.
    """

    loss: Float[Array, ""]
    output: Float[Array, " outputs"]
    activity: tuple[Float[Array, " _"], ...] = ()


class Parts(NamedTuple):
    """ΔW as Σₗ leftₗ ⊗ rightₗ + factor ∘ W, where the weight occurs with presynaptic variables only.

    Attributes:
        left: presynaptic factors [l, pre].
        right: postsynaptic factors [l, post].
        factor: factor of the weights of each presynaptic neuron [pre].
    """

    left: Float[Array, "l pre"]
    right: Float[Array, "l post"]
    factor: Float[Array, " pre"]


class Estimate(NamedTuple):
    """Meta-loss of one lifetime and its θ-gradient.

    Attributes:
        loss: the meta-loss.
        gradient: ∂loss/∂θ, shaped as θ.
        metrics: metrics of the network at the end of its lifetime.
    """

    loss: Float[Array, ""]
    gradient: Theta
    metrics: Metrics


class Info(NamedTuple):
    """Observables of one meta-step; the run does not need them to continue.

    Attributes:
        loss: mean meta-loss over the finite lifetimes; for a search that of its challenger.
        metrics: mean metrics of the same lifetimes.
        observed: further observables of this optimiser, by name.
        lifetimes: number of lifetimes.
        nonfinite_lifetimes: lifetimes left out because their loss or gradient was not finite.
        zero_gradient_lifetimes: lifetimes whose gradient was exactly zero though they had a loss, as when every weight
            is at its bound.
        rejected: whether the previous step was undone because these lifetimes went badly.
        theta: θ after the step.
    """

    loss: Float[Array, ""]
    metrics: Metrics
    observed: Metrics
    lifetimes: Int[Array, ""]
    nonfinite_lifetimes: Int[Array, ""]
    zero_gradient_lifetimes: Int[Array, ""]
    rejected: Bool[Array, ""]
    theta: Theta


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

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Float[Array, "..."]]:
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
        """Whether each projection is plastic."""


@runtime_checkable
class Chunkable(Protocol):
    """A circuit whose `step` may be computed in chunks.

    Its first projection then reads the stimulus only, and the weights of that projection make potentials only, so that
    `step` also accepts a first weight matrix with one row a step of a chunk, and a one-hot input.
    """

    @property
    def chunkable(self) -> bool:
        """Whether steps can be computed in chunks."""


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
        """Whether steps can be inverted."""

    def step_with_record(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput, Any]:
        """Do as `step`, and record what `invert_step` needs."""

    def invert_step(self, theta: Theta, state: LearnerState, record: Any) -> LearnerState:
        """State before a step from that after it, if no weight was clipped at its bound."""

    def recorded_potentials(self, record: Any) -> list[Array]:
        """Potentials in a record, by which a reconstruction is verified."""

    def at_bound(self, state: LearnerState) -> Bool[Array, ""]:
        """Whether any weight is at its bound."""

    def without_bound(self) -> "InvertibleLearner":
        """Copy of the learner whose weights are not bounded."""


@runtime_checkable
class ChunkableLearner(Learner, Protocol):
    """A learner whose steps may be computed in chunks: the first projection changes once a chunk."""

    @property
    def chunkable(self) -> bool:
        """Whether steps can be computed in chunks."""

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
