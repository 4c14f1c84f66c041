"""Settings of simulated animals, and of what is recorded of them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.lifetime.inner_loop import LONGEST
from metarule.recordings.environments import Trials, discrimination, noise, odours
from metarule.types import PRNGKey

__all__ = ["Simulation"]

# Environments that use a field; all use the others.
_USED_BY = {
    "input_noise": ("odours",),
    "reward_probabilities": ("odours",),
    "block": ("odours",),
    "reward": ("odours", "discrimination"),
}

Size = Annotated[int, Meta(ge=1, le=65_536)]
Spread = Annotated[float, Meta(ge=0)]


class Simulation(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Simulated animals, their environment, and what is recorded.

    Inputs, initial weights and, where animals choose, choices, rewards and plasticity are recorded as well. A choice
    is 1 with a probability that is the activity of the single output neuron, and the target of that neuron is the
    choice. The neuromodulator is the reward; without a reward synapses are not plastic.

    Attributes:
        animals: number of animals, each with initial weights and inputs of its own.
        steps: steps of each animal.
        sessions: sessions of equal length; in each, activity and traces start anew.
        inputs: number of input neurons.
        outputs: number of output neurons.
        environment: `noise` draws inputs at random and gives no rewards; in `odours` animals accept or reject one of
            several odours, and only an accepted odour may be rewarded; in `discrimination` the choice of 1 is rewarded
            if the first of the random inputs is positive, and that of 0 otherwise.
        input_scale: standard deviation of random inputs; activity of the input neuron of an odour.
        input_noise: standard deviation of the noise on the inputs of odours.
        reward_probabilities: probability of a reward for each odour, one an input neuron; they rotate at each block.
        block: trials of a block.
        reward: third factor: the `raw` reward, or `centred`, minus the moving average of the rewards before it.
        reward_decay: decay of this average in a trial.
        record: what is recorded: the activity of output neurons, the weights before each step, or choices.
        neurons: numbers of the output neurons whose activity is recorded, from 0; empty for all.
        activity_noise: standard deviation of the noise on recorded activity.
        weight_noise: standard deviation of the noise on recorded weights, but not on the initial ones.
        missing: share of the recorded activity that is missing, at random.
        initial_weights: whether initial weights are recorded or hidden.

    Raises:
        ValueError: settings that do not fit together.
    """

    animals: Annotated[int, Meta(ge=1, le=100_000)] = 20
    steps: Annotated[int, Meta(ge=1, le=LONGEST)] = 50
    sessions: Annotated[int, Meta(ge=1)] = 1
    inputs: Size = 5
    outputs: Size = 3
    environment: Literal["noise", "odours", "discrimination"] = "noise"
    input_scale: Spread = 1.0
    input_noise: Spread = 0.0
    reward_probabilities: Annotated[tuple[Annotated[float, Meta(ge=0, le=1)], ...], Meta(min_length=1)] = (0.8, 0.2)
    block: Annotated[int, Meta(ge=1)] = 80
    reward: Literal["raw", "centred"] = "raw"
    reward_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    record: Annotated[tuple[Literal["activity", "weights", "choices"], ...], Meta(min_length=1)] = ("activity",)
    neurons: tuple[int, ...] = ()
    activity_noise: Spread = 0.0
    weight_noise: Spread = 0.0
    missing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    initial_weights: Literal["recorded", "hidden"] = "recorded"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps % self.sessions:
            raise ValueError(f"sessions = {self.sessions}: allowed: divisors of steps = {self.steps}")
        if not set(self.neurons) <= set(range(self.outputs)) or len(set(self.neurons)) < len(self.neurons):
            raise ValueError(f"neurons = {list(self.neurons)}: allowed: distinct numbers from 0 to {self.outputs - 1}")
        defaults = {field.name: field.default for field in msgspec.structs.fields(type(self))}
        for field, environments in _USED_BY.items():
            if self.environment not in environments and (value := getattr(self, field)) != defaults[field]:
                allowed = " or ".join(environments)
                raise ValueError(f"{field} = {value}: environment = '{self.environment}' has none; allowed: {allowed}")
        if self.environment == "odours" and len(self.reward_probabilities) != self.inputs:
            raise ValueError(
                f"reward_probabilities = {list(self.reward_probabilities)}: allowed: as many as inputs = {self.inputs}"
            )

    @property
    def is_rewarded(self) -> bool:
        """True if choices are rewarded."""
        return self.environment != "noise"

    @property
    def has_choices(self) -> bool:
        """True if animals choose."""
        return self.is_rewarded or "choices" in self.record

    def trials(self, key: PRNGKey) -> Trials:
        """Draw the trials of an animal."""
        if self.environment == "odours":
            scales = self.input_scale, self.input_noise
            return odours(key, self.steps, self.reward_probabilities, self.block, *scales)
        draw = noise if self.environment == "noise" else discrimination
        return draw(key, self.steps, self.inputs, self.input_scale)
