"""The vocabulary that every room shares: what a synapse sees, what a lifetime is made of, and the protocols.

A component is anything that satisfies its protocol; there is no base class to inherit from and nothing to
register. Components are hashable and hold hyper-parameters alone. θ, weights, tasks and states are pytrees of
arrays and travel as arguments.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from jax import Array
from jax.tree_util import DictKey
from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped

__all__ = [
    "LOGITS",
    "STIMULI",
    "Circuit",
    "Estimate",
    "Estimator",
    "Info",
    "Integer",
    "Learner",
    "LearnerState",
    "LifetimeContext",
    "MetaOptimizer",
    "Metrics",
    "PRNGKey",
    "Phase",
    "PhaseOptimizer",
    "Rule",
    "ScanFn",
    "Split",
    "StepOutput",
    "Stimulus",
    "Synapse",
    "TaskFamily",
    "Theta",
    "Weights",
]

# Stimuli of conditioning, in the order of the sensory neurons: two conditioned ones, and the unconditioned one.
STIMULI = ("CS1", "CS2", "US")

# Where a θ keeps the logits of its decays: a logit of 0 is a decay of ½, not a shorter or weaker rule.
LOGITS = DictKey("logit_decay")

PRNGKey = Key[Array, ""]
Integer = int | Int[Array, ""]
Scalar = Float[Array, ""]
Theta: TypeAlias = PyTree[Float[Array, "..."]]
Metrics = dict[str, Float[Array, ""]]
Weights = tuple[Float[Array, "_ _"], ...]
ScanFn = Callable[[Callable[[Any, Any], tuple[Any, Any]], Any, Any], tuple[Any, Any]]


class Synapse(NamedTuple):
    """What one synapse may see.

    The same tuple holds the scalars of one synapse, or the arrays of a whole projection: `pre` and `pre_trace` are then
    [pre], `weight` is [pre, post], `neuromodulator` is a scalar and the others are [post]. What a circuit does not
    offer is None.

    Attributes:
        pre: activity of the presynaptic neuron.
        post: activity of the postsynaptic neuron.
        potential: potential of the postsynaptic neuron.
        weight: strength of the synapse.
        modulator: activity of the modulatory (facilitatory) neuron acting on the synapse.
        pre_trace: recent activity of the presynaptic neuron, the present one left out.
        post_trace: recent activity of the postsynaptic neuron, the present one left out.
        neuromodulator: concentration of the diffuse neuromodulator, the same everywhere.
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
    """One step, or a batch of them along a leading axis.

    Attributes:
        input: activity of the input neurons [*batch, inputs].
        target: what is wanted of the output neurons, as the loss of the family reads it [*batch, targets].
    """

    input: Float[Array, "*batch inputs"]
    target: Float[Array, "*batch targets"]


class Split(NamedTuple):
    """Two pools of tasks, disjoint unless their family is asked to hold none out.

    They are data: a seed that is traced or vmapped may decide what is in them.

    Attributes:
        train: the tasks that θ may learn from.
        test: the tasks that θ never meets in meta-training.
    """

    train: PyTree[Shaped[Array, "..."]]
    test: PyTree[Shaped[Array, "..."]]


class LifetimeContext(NamedTuple):
    """What stays constant while a learner lives; it is closed over by the time loop, never carried through it.

    Attributes:
        task: the task, in its family's own form.
        wiring: what the circuit draws once and is not plastic, such as random backward weights.
        key: source of whatever is random in the steps.
    """

    task: PyTree[Shaped[Array, "..."]]
    wiring: PyTree[Float[Array, "..."]]
    key: PRNGKey


class LearnerState(NamedTuple):
    """What a learner carries from one step to the next.

    Attributes:
        weights: one matrix [pre, post] a projection.
        memory: what the rule remembers at each synapse, one entry a projection.
        activity: what the circuit remembers of its own activity.
    """

    weights: Weights
    memory: tuple[PyTree[Float[Array, "..."]], ...]
    activity: PyTree[Float[Array, "..."]]


class StepOutput(NamedTuple):
    """What is seen of one step.

    Attributes:
        loss: its share of the meta-loss, so that a lifetime's loss is the sum of these and of the assessment.
        output: activity of the output neurons [outputs], before the weights changed.
    """

    loss: Float[Array, ""]
    output: Float[Array, " outputs"]


class Estimate(NamedTuple):
    """The meta-loss of one lifetime and its θ-gradient.

    Attributes:
        loss: the meta-loss.
        gradient: ∂loss/∂θ, shaped as θ.
        metrics: scores of the network at the end of its lifetime.
    """

    loss: Float[Array, ""]
    gradient: Theta
    metrics: Metrics


class Info(NamedTuple):
    """What is observed of one meta-step; nothing of it is needed to go on.

    Attributes:
        loss: mean meta-loss: of gradient descent over the lifetimes that stayed finite, of a search that of its challenger.
        metrics: the mean scores of the same lifetimes.
        observed: what else this kind of optimiser sees, by name.
        lives: how many were lived.
        nonfinite_lifetimes: those of them left out because their loss or gradient was not finite.
        zero_gradient_lifetimes: lives whose gradient was exactly zero though they had a loss, as when every weight sits at
            its bound.
        rejected: whether the step before was taken back, because these lifetimes went badly.
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


@runtime_checkable
class Rule(Protocol):
    """Δw = f(local variables; θ), the same function at every synapse.

    A rule may say by `affine = True` that Δw is affine in the weight: then gradients of long lifetimes need less memory.
    One in which weights occur with pre alone may say so by `factored = True`, and by `parts(theta, projection)` what its
    change is made of: then lives with many inputs take less time.
    """

    @property
    def variables(self) -> tuple[str, ...]:
        """Fields of `Synapse` that the rule looks at."""

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""

    def scale(self) -> Theta:
        """Natural size of each number of θ, shaped as θ: what moves θ takes its steps in these."""

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Float[Array, "..."]]:
        """What each synapse remembers at birth; `()` where the rule has no memory."""

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Δw of one synapse, and its memory afterwards: the specification of the rule."""

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """ΔW of a whole projection, equal to `delta` at each of its synapses."""

    def describe(self, theta: Theta) -> Mapping[str, Float[Array, ""]]:
        """The numbers of θ that have a name."""

    def equation(self, theta: Theta) -> str:
        """The rule as a person would write it."""


@runtime_checkable
class Circuit(Protocol):
    """Who is wired to whom, and what each synapse sees.

    A circuit may say by `sees_weights = True` that synapses see the very weights that change, none of them left out. By
    `ahead = True` it says that the first projection hears the stimulus alone, of any length, and that its weights do
    nothing but make potentials: then steps can be lived in chunks.
    """

    @property
    def output(self) -> str:
        """Activation of the output neurons, by name."""

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers of inputs and outputs that it is made for; None where any will do."""

    @property
    def offers(self) -> tuple[str, ...]:
        """Fields of `Synapse` that its synapses see."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Name of the path to which each projection belongs, such as forward or backward."""

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Any, Any]:
        """Draw (plastic weights, wiring that is not plastic, activity at rest)."""

    def step(
        self, weights: Weights, wiring: Any, activity: Any, stimulus: Stimulus
    ) -> tuple[Any, Float[Array, " outputs"], tuple[Synapse, ...]]:
        """Present one stimulus; return (activity, output, what the synapses of each projection see)."""


@runtime_checkable
class TaskFamily(Protocol):
    """A distribution over learning problems whose tasks are numbered."""

    @property
    def inputs(self) -> int:
        """Number of input neurons that the tasks need."""

    @property
    def outputs(self) -> int:
        """Number of output neurons that the tasks need."""

    @property
    def link(self) -> str:
        """Activation of the output neurons that the loss is made for, by name."""

    @property
    def score(self) -> str:
        """The metric that people quote, from 0 to 1; larger is better."""

    def split(self, seed: Integer) -> Split:
        """Part the tasks into two disjoint pools; the seed may be traced."""

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Any:
        """Task number `index` of a pool; the key draws what is incidental, such as the order of step."""

    def task_id(self, pool: Any, index: Integer) -> Integer:
        """Number that is the same for two tasks of a pool if they differ only in labels, order or examples."""

    @property
    def min_steps(self) -> int:
        """Steps that a lifetime must have at least."""

    @property
    def round_steps(self) -> int:
        """Steps in a round that shows one example of each class; 0 where they are not in rounds."""

    def stimulus(self, task: Any, t: Integer, key: PRNGKey) -> Stimulus:
        """What is presented at one time."""

    def examples(self, task: Any) -> Stimulus:
        """The batch on which the final network is assessed."""

    def loss(self, output: Float[Array, " outputs"], target: Float[Array, " targets"]) -> Float[Array, ""]:
        """How wrong one output is."""

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """Scores of a network from its outputs to the assessed examples, all finite; see `tasks.scores` for others."""


@runtime_checkable
class Learner(Protocol):
    """One learner that can live through one task: what every estimator differentiates."""

    @property
    def steps(self) -> int:
        """Length of the lifetime."""

    @property
    def tasks(self) -> TaskFamily:
        """What there is to learn."""

    def with_steps(self, steps: int) -> "Learner":
        """The same learner with a lifetime of another length."""

    def theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""

    def theta_scale(self) -> Theta:
        """Natural size of each number of θ, shaped as θ."""

    def init(self, key: PRNGKey, task: Any) -> tuple[LifetimeContext, LearnerState]:
        """A fresh network that is about to meet a task."""

    def step(
        self, theta: Theta, context: LifetimeContext, learner_state: LearnerState, t: Integer
    ) -> tuple[LearnerState, StepOutput]:
        """One step, and the plastic change that follows it."""

    def evaluate(
        self, theta: Theta, context: LifetimeContext, learner_state: LearnerState
    ) -> tuple[Float[Array, ""], Metrics]:
        """Final share of the meta-loss and the scores, with the rule off."""


@runtime_checkable
class Estimator(Protocol):
    """A way to the θ-gradient of the meta-loss, for one task."""

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs, at most."""

    @property
    def whole(self) -> bool:
        """Whether an estimate is of whole lifetimes, so that meta-losses of different meta-steps can be compared."""

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Any:
        """State that persists between meta-steps; `()` where there is none."""

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Meta-loss and θ-gradient on one task."""


@runtime_checkable
class PhaseOptimizer(Protocol):
    """What moves θ in a part of a run."""

    def step(self, learner: Learner, pool: Any, state: Any, key: PRNGKey) -> tuple[Any, Info]:
        """One meta-step on tasks of a pool."""


class Phase(NamedTuple):
    """A part of a run.

    Attributes:
        learner: who lives in it.
        optimizer: what moves θ in it.
        end: the first meta-step after it.
    """

    learner: Learner
    optimizer: PhaseOptimizer
    end: int


@runtime_checkable
class MetaOptimizer(PhaseOptimizer, Protocol):
    """What moves θ, from a first meta-step to a last."""

    @property
    def steps(self) -> int:
        """Meta-steps of a whole run."""

    @property
    def lifetimes(self) -> int:
        """Lifetimes that a whole run costs."""

    @property
    def train_tasks(self) -> int | Literal["all"]:
        """How many tasks of the training pool are met; `all` where they are drawn at random."""

    @property
    def comparable(self) -> bool:
        """Whether meta-losses of different meta-steps can be compared."""

    def spent(self, steps: int) -> int:
        """Lifetimes that so many meta-steps cost."""

    def phases(self, learner: Learner) -> tuple[Phase, ...]:
        """Who lives and what moves θ, part by part of a run."""

    def decided(self, learner: Learner, runs: int) -> tuple["MetaOptimizer", str]:
        """The same with whatever it leaves open decided, for runs that share the memory, and why in one line."""

    def remedies(self, learner: Learner) -> tuple[str, ...]:
        """What a person may try where too many lifetimes come to nothing."""

    def init(self, learner: Learner, pool: Any, theta: Theta, key: PRNGKey) -> Any:
        """State at the first meta-step on tasks of a pool."""

    def theta(self, state: Any) -> Theta:
        """The θ that a state stands for."""
