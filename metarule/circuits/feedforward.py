"""Layered networks with modulatory feedback."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import chex
import jax
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.activations import ACTIVATIONS, derivative
from metarule.circuits import initial_weights, parts, sampling
from metarule.config.schema import Checked
from metarule.types import CircuitStep, PRNGKey, Stimulus, Synapse, Weights

__all__ = ["Feedforward"]

Size = Annotated[int, Meta(ge=1, le=65_536)]


class Feedforward(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="feedforward"):
    """Layered network of any depth and width; a modulatory feedback path carries errors to hidden neurons.

    potential_l = W_lᵀ·[post_{l−1}; 1],  post_l = f(potential_l)
    modulator_L = target − output,       modulator_l = B_lᵀ·modulator_{l+1} [∘ f′(potential_l)]

    B_lᵀ is W_{l+1} (`transpose`), 0 (`zero`), or B_l is a separate matrix, fixed and random (`random`) or plastic
    (`learned`). The output modulators equal −∂loss/∂potential if loss and output activation are a canonical pair
    (cross-entropy with sigmoid or softmax, squared error with identity). The delta rule with `transpose` and f′ is then
    backprop. The diffuse neuromodulator carries the reward of the stimulus, or
    without one −mean (target − output)².

    With the output `choice` one output neuron fires at each step, k with the probability softmax(potential)_k. Output
    and post are then the one-hot choice, and the error is target − probabilities, so that with the choice as target it
    is ∂ln P(choice)/∂potential. Noise and choices are drawn from the key of the stimulus. Without a key there is no
    noise, and the output is the probabilities.

    Plastic feedback weights are projections after the forward ones. A feedback synapse connects the modulatory neurons
    of two layers and is modulated by the forward neuron paired with its postsynaptic neuron: pre = modulator_{l+1},
    post = modulator_l, potential = B_lᵀ·modulator_{l+1}, modulator = post_l. So the delta rule changes B_l and W_{l+1}ᵀ
    by the same amount, and with weight decay they converge to each other.

    Attributes:
        hidden: size of each hidden layer; empty for none.
        activation: f, activation of the hidden neurons.
        output: activation of the output neurons; a config that does not set it follows the tasks. With `choice` one of
            them fires, drawn by its softmax probability.
        bias: whether every neuron has a plastic synapse from a neuron with constant activity 1.
        feedback: feedback path of the hidden modulators.
        derivative: whether hidden modulators have the factor f′(potential).
        noise: standard deviation of the Gaussian noise on the potentials of hidden neurons at each step; the final
            evaluation on examples has none.
        weight_scale: initial weights are N(0, weight_scale²/pre).
        feedback_scale: random and initial learned feedback weights are N(0, feedback_scale²/post).
        initial: `learned` initial weights, and `random` feedback weights, are part of θ, the same in all lifetimes;
            `random` ones are drawn for each lifetime.
        fixed: numbers of the projections that are not plastic, from 0, the one from the inputs.

    Raises:
        ValueError: a fixed projection that does not exist, or no plastic one.

    References:
        Rumelhart, Hinton, Williams 1986 (transpose); Lillicrap et al. 2016 (random); Kolen & Pollack 1994 (learned);
        Williams 1992 (choices); Finn, Abbeel, Levine 2017 (learned initial weights); Lindsey, Litwin-Kumar 2020
        (learned fixed feedback weights).
    """

    hidden: Annotated[tuple[Size, ...], Meta(max_length=64)] = (8,)
    activation: parts.HiddenActivation = "tanh"
    output: parts.OutputActivation = "sigmoid"
    bias: bool = True
    feedback: Literal["transpose", "random", "learned", "zero"] = "random"
    derivative: bool = False
    noise: Annotated[float, Meta(ge=0)] = 0.0
    weight_scale: Annotated[float, Meta(ge=0)] = 1.0
    feedback_scale: Annotated[float, Meta(ge=0)] = 1.0
    initial: initial_weights.Initial = "random"
    fixed: tuple[int, ...] = ()
    chunkable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.plastic

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each projection: forward projections, then plastic feedback projections."""
        feedback = len(self.hidden) if self.feedback == "learned" else 0
        return ("forward",) * (len(self.hidden) + 1) + ("feedback",) * feedback

    @property
    def plastic(self) -> tuple[bool, ...]:
        """Plasticity of each projection."""
        return parts.plastic(self.fixed, len(self.paths))

    @property
    def stochastic(self) -> bool:
        """True if steps draw random numbers."""
        return self.output == sampling.CHOICE or self.noise > 0

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Weights, tuple[()]]:
        """Draw fresh weights.

        Returns:
            (weights [pre (+1 with bias), post] by projection, fixed feedback weights [post of the next, post] by hidden
            layer, state `()`). Learned feedback weights are among the weights, after the forward ones.
        """
        sizes = (inputs, *self.hidden, outputs)
        forward_key, feedback_key = jax.random.split(key)
        shapes = [(pre + self.bias, post) for pre, post in pairwise(sizes)]
        forward = parts.normal_matrices(forward_key, shapes, [self.weight_scale / pre**0.5 for pre, _ in shapes])
        if self.feedback not in ("random", "learned"):
            return forward, (), ()
        shapes = [(later, post) for post, later in pairwise(sizes[1:])]
        scales = [self.feedback_scale / later**0.5 for later, _ in shapes]
        feedback = parts.normal_matrices(feedback_key, shapes, scales)
        return (forward, feedback, ()) if self.feedback == "random" else (forward + feedback, (), ())

    @property
    def learns_initial(self) -> bool:
        """True if the initial weights are part of θ."""
        return self.initial == initial_weights.LEARNED

    def initial_values(self, weights: Weights, wiring: Weights) -> dict[str, Float[Array, "..."]]:
        """Arrays that are part of θ: `weights_0`, … by projection, and `feedback_0`, … of the `random` path."""
        return initial_weights.named(weights, wiring)

    def with_initial_values(
        self, values: dict[str, Float[Array, "..."]], weights: Weights, wiring: Weights
    ) -> tuple[Weights, Weights]:
        """Weights and wiring with the arrays that are part of θ."""
        return initial_weights.weights_of(values), initial_weights.feedback_of(values)

    def step(self, weights: Weights, wiring: Weights, state: tuple[()], stimulus: Stimulus) -> CircuitStep:
        """Compute the response to one stimulus with a target [outputs]; the activity is that of each layer."""
        layers = len(self.hidden) + 1
        forward, plastic = weights[:layers], weights[layers:]
        chex.assert_shape(stimulus.input, (forward[0].shape[0] - self.bias,))
        chex.assert_shape(stimulus.target, (forward[-1].shape[1],))
        noise_key, choice_key = sampling.split_key(stimulus.key)
        pres, potentials, posts = self._forward(forward, stimulus.input, noise_key)
        response = sampling.respond(self.output, potentials[-1], choice_key)
        posts.append(response.output)
        error = stimulus.target - response.mean
        feedbacks, modulators = self._modulators(forward, wiring or plastic, potentials, error)
        local = [*zip(pres, posts, potentials, forward, modulators, strict=True)]
        if plastic:
            local += zip(modulators[1:], modulators[:-1], feedbacks, plastic, posts[:-1], strict=True)
        diffuse = parts.neuromodulator(stimulus, error)
        synapses = tuple(Synapse(*values, neuromodulator=diffuse) for values in local)
        return CircuitStep((), response.output, synapses, tuple(posts), response.log_probability)

    def _forward(
        self, weights: Weights, signal: Float[Array, " inputs"], noise_key: PRNGKey | None
    ) -> tuple[list, list, list]:
        """Presynaptic activities and potentials of each layer, and activities of the hidden ones."""
        pres, potentials, posts = [], [], []
        for layer, matrix in enumerate(weights):
            pres.append(parts.append_bias(signal, self.bias))
            potential = pres[-1] @ matrix
            if layer < len(self.hidden):
                potential = sampling.noisy(potential, self.noise, noise_key, layer)
                signal = ACTIVATIONS[self.activation](potential)
                posts.append(signal)
            potentials.append(potential)
        return pres, potentials, posts

    def _modulators(
        self, forward: Weights, feedback: Weights, potentials: list, error: Float[Array, " outputs"]
    ) -> tuple[list, list]:
        """Potentials of the modulatory neurons of each hidden layer, and activities of all modulatory neurons."""
        feedbacks: list = []
        modulators = [error]
        for layer in reversed(range(len(self.hidden))):
            outgoing = forward[layer + 1][: self.hidden[layer]]
            separate = feedback[layer] if feedback else None
            modulator = parts.feedback_potentials(self.feedback, outgoing, separate, modulators[0])
            feedbacks.insert(0, modulator)
            if self.derivative:
                modulator *= derivative(ACTIVATIONS[self.activation], potentials[layer])
            modulators.insert(0, modulator)
        return feedbacks, modulators
