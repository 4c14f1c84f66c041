"""Data that all packages share: local variables, stimuli, states, estimates."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from jax import Array
from jax.tree_util import DictKey
from jaxtyping import Bool, Float, Int, Key, PyTree, Shaped

__all__ = ["LOGITS", "STIMULI", "Integer", "Metrics", "PRNGKey", "ScanFn", "Theta", "Weights"]
__all__ += ["CircuitStep", "Estimate", "Info", "LearnerState", "LifetimeContext", "Observed", "Parts", "Reaction"]
__all__ += ["Split", "StepOutput", "Stimulus", "Synapse"]

# Stimuli of conditioning in the order of the sensory neurons: two conditioned stimuli and the unconditioned one.
STIMULI = ("CS1", "CS2", "US")

# Key under which θ holds the logits of its decays: a logit of 0 is a decay of ½, not a shorter or weaker rule.
LOGITS = DictKey("logit_decay")

PRNGKey = Key[Array, ""]
Integer = int | Int[Array, ""]
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


class Observed(NamedTuple):
    """Recording of one step, or the prediction of a network for it; NaN is "not observed".

    Attributes:
        activity: activity of the recorded neurons [neurons]; None if no activity was recorded.
        weights: weights before the step, one matrix [pre, post] a projection, None where they were not recorded.
        choice: 0 or 1; its prediction is the probability of 1; None if no choices were recorded.
    """

    activity: Float[Array, "*batch neurons"] | None = None
    weights: tuple[Float[Array, "*batch _ _"] | None, ...] = ()
    choice: Float[Array, "*batch"] | None = None


class Stimulus(NamedTuple):
    """Input of one step, or of a batch of steps along a leading axis.

    Attributes:
        input: activity of the input neurons [*batch, inputs].
        target: wanted activity of the output neurons, in the form that the loss reads [*batch, targets].
        observed: recording of this step, where tasks are recordings.
        reward: reward at this step, where a task gives one; it is the diffuse neuromodulator.
        plasticity: gate g of the plastic change, w ← w + g·Δw; None for 1.
        restart: 1 at the first step of a session, where activity and traces start anew, otherwise 0; None for 0.
        key: source of randomness of a stochastic circuit at this step; None for its mean response.
    """

    input: Float[Array, "*batch inputs"]
    target: Float[Array, "*batch targets"]
    observed: Observed | None = None
    reward: Float[Array, "*batch"] | None = None
    plasticity: Float[Array, "*batch"] | None = None
    restart: Float[Array, "*batch"] | None = None
    key: Key[Array, "*batch"] | None = None


class CircuitStep(NamedTuple):
    """Result of one step of a circuit, before its weights change.

    Attributes:
        state: state of the circuit after the step.
        output: activity of the output neurons [outputs].
        synapses: local variables, one entry a projection.
        activity: activity of all neurons but the inputs, one array a layer or population.
        log_probability: logarithm of the probability of what was sampled in this step; None if nothing was.
    """

    state: Any
    output: Float[Array, " outputs"]
    synapses: tuple[Synapse, ...]
    activity: tuple[Float[Array, " _"], ...] = ()
    log_probability: Float[Array, ""] | None = None


class Reaction(NamedTuple):
    """Reaction of a task to the output of a network in a closed loop.

    Attributes:
        state: state of the task after the step.
        reward: reward that arrives at this step, perhaps for earlier outputs; it is the diffuse neuromodulator.
        loss: loss of this step; None for −reward.
        target: wanted activity of the output neurons, from which errors are made; None for the output itself, so that
            the error of a sampled choice is choice − probability.
    """

    state: Any
    reward: Float[Array, ""]
    loss: Float[Array, ""] | None = None
    target: Float[Array, " outputs"] | None = None


class Split(NamedTuple):
    """Two pools of tasks, disjoint unless their family holds none out.

    Attributes:
        train: tasks for meta-training.
        test: held-out tasks.
    """

    train: PyTree[Shaped[Array, "..."]]
    test: PyTree[Shaped[Array, "..."]]


class LifetimeContext(NamedTuple):
    """Constants of a lifetime. The scan closes over them, because it copies its state at every step.

    Attributes:
        task: the task, in the form of its family.
        wiring: constants of the circuit, such as random feedback weights.
        key: source of randomness of the stimuli.
        rest: state of the circuit at the start of a session.
    """

    task: PyTree[Shaped[Array, "..."]]
    wiring: PyTree[Float[Array, "..."]]
    key: PRNGKey
    rest: PyTree[Float[Array, "..."]] = ()


class LearnerState(NamedTuple):
    """State of a learner between steps.

    Attributes:
        weights: one matrix [pre, post] a projection.
        memory: memory of the rule at each synapse, one entry a projection.
        circuit: state of the circuit.
        task: state of the task, where it reacts to the network; otherwise `()`.
    """

    weights: Weights
    memory: tuple[PyTree[Float[Array, "..."]], ...]
    circuit: PyTree[Float[Array, "..."]]
    task: PyTree[Shaped[Array, "..."]] = ()


class StepOutput(NamedTuple):
    """Observables of one step.

    Attributes:
        loss: share of the meta-loss; the loss of a lifetime is the sum of these and of the final evaluation.
        output: activity of the output neurons before the weights changed [outputs].
        activity: as in `CircuitStep`.
        log_probability: as in `CircuitStep`.
    """

    loss: Float[Array, ""]
    output: Float[Array, " outputs"]
    activity: tuple[Float[Array, " _"], ...] = ()
    log_probability: Float[Array, ""] | None = None


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
        zero_gradient_lifetimes: lifetimes with a loss whose gradient was exactly zero, as when every weight is at its
            bound.
        rejected: true if the previous step was rejected because of these lifetimes.
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
