"""Protocols of task families and their losses."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

from metarule.types import CircuitStep, Integer, Metrics, Observed, PRNGKey, Reaction, Split, Stimulus, Weights

__all__ = ["ClosedLoop", "HasIdealObserver", "HasTaskIds", "InEpisodes", "InRounds", "InitialWeights", "Loss"]
__all__ += ["MinimumLength", "OpenLoop", "PrimaryMetric", "Recorded", "TaskFamily"]


@runtime_checkable
class Loss(Protocol):
    """A loss, or a family in a closed loop, that names its output activation, so that the circuit is checked."""

    @property
    def activation(self) -> str:
        """Activation of the output neurons, such as `sigmoid`."""


@runtime_checkable
class TaskFamily(Protocol):
    """A distribution over learning problems; it is also `OpenLoop` or `ClosedLoop`."""

    @property
    def inputs(self) -> int:
        """Number of input neurons."""

    @property
    def outputs(self) -> int:
        """Number of output neurons."""

    def split(self, seed: Integer) -> Split:
        """Split the tasks into two disjoint pools, which are pytrees of arrays; the seed may be traced."""

    def sample(self, key: PRNGKey, pool: Any, index: Integer) -> Any:
        """Sample task number `index` ≥ 0 of a pool; the key draws incidentals such as the order of stimuli."""

    def stimulus(self, task: Any, t: Integer, key: PRNGKey) -> Stimulus:
        """Stimulus of step t ≥ 0; the key draws noise."""


@runtime_checkable
class OpenLoop(TaskFamily, Protocol):
    """A task family whose stimuli do not depend on the network, which is evaluated on examples."""

    @property
    def loss(self) -> Callable[[Float[Array, " outputs"], Float[Array, " targets"]], Float[Array, ""]]:
        """Function of one output and its target, in the form that `stimulus` gives; it may be a `Loss`."""

    def examples(self, task: Any) -> Stimulus:
        """Batch of stimuli on which the network is evaluated, with plasticity off."""

    def metrics(self, output: Float[Array, "n outputs"], target: Float[Array, "n targets"]) -> Metrics:
        """Scalars by name from the outputs to `examples`, finite for finite outputs."""


@runtime_checkable
class ClosedLoop(TaskFamily, Protocol):
    """A task family whose tasks have a state and react to the network, which is scored by what it did."""

    def start(self, task: Any) -> Any:
        """State of a task before the first step, a pytree of arrays."""

    def sense(self, task: Any, state: Any, stimulus: Stimulus) -> Stimulus:
        """Stimulus of a step in a state, made of that which `stimulus` returned; its `restart` is not read."""

    def react(self, task: Any, state: Any, output: Float[Array, " outputs"], key: PRNGKey) -> Reaction:
        """React to the output of a step; the key draws whatever is random in the reaction."""

    def scores(self, task: Any, state: Any) -> Metrics:
        """Scalars by name from a state, about the lifetime so far; finite in every state, the first included."""


@runtime_checkable
class HasIdealObserver(ClosedLoop, Protocol):
    """A task family in a closed loop with an ideal observer, an agent that knows all but the hidden state."""

    def ideal_start(self, task: Any) -> Any:
        """Belief of the observer before the first step, a pytree of arrays."""

    def ideal_choice(self, task: Any, belief: Any) -> Float[Array, " outputs"]:
        """Choice of the observer in a step, in the form that `react` takes."""

    def ideal_update(self, task: Any, belief: Any, choice: Float[Array, " outputs"], reward: Float[Array, ""]) -> Any:
        """Belief after a step, from the choice and the reward of the reaction."""


@runtime_checkable
class InEpisodes(Protocol):
    """A task family whose episodes may end with a reward; by default later rewards may be for earlier outputs."""

    @property
    def in_episodes(self) -> bool:
        """True if a reward ends an episode, so that no later one depends on what was done before it."""


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
class Recorded(Protocol):
    """A task family whose meta-loss compares a network with recordings, the `observed` of each stimulus."""

    def check(self, weights: Sequence[Any], activity: Sequence[Any], variables: Sequence[str]) -> None:
        """Refuse a network by the shapes of its weights and activity, or by the local variables that the rule reads."""

    def predict(self, task: Any, weights: Weights, response: CircuitStep) -> Observed:
        """Predict what is recorded, from the weights before a step and the response of the network."""

    def misfit(self, task: Any, predicted: Observed, observed: Observed) -> Float[Array, ""]:
        """Misfit of one step, a sum over what was observed."""
