"""Leaky recurrent networks with sparse recurrent synapses."""

from typing import Annotated, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.activations import ACTIVATIONS, derivative
from metarule.circuits import initial_weights, parts, sampling
from metarule.config.schema import Checked
from metarule.types import CircuitStep, PRNGKey, Stimulus, Weights

__all__ = ["Activity", "Recurrent", "Wiring"]


class Wiring(NamedTuple):
    """Fixed random wiring.

    Attributes:
        mask: 1 for existing recurrent synapses, 0 otherwise [neurons, neurons].
        feedback: random weights from output errors to recurrent neurons [outputs, neurons]; None for other paths.
    """

    mask: Float[Array, "neurons neurons"]
    feedback: Float[Array, "outputs neurons"] | None


class Activity(NamedTuple):
    """Activity carried from one step to the next; zeros at rest.

    Attributes:
        potential: potentials of the recurrent neurons [neurons].
        pre_traces: recent presynaptic activity, by projection [pre].
        post_traces: recent postsynaptic activity, by projection [post].
    """

    potential: Float[Array, " neurons"]
    pre_traces: parts.Vectors
    post_traces: parts.Vectors


class Recurrent(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="recurrent"):
    """A rate network with plastic input, recurrent and output weights.

    potential_t = (1 − leak)·potential_{t−1} + leak·(W_inᵀ·[input_t; 1] + (M ∘ W_rec)ᵀ·rate_{t−1}) + noise·ξ_t
    rate_t      = f(potential_t),  output_t = g(W_outᵀ·[rate_t; 1])
    modulator_t = Bᵀ·(target_t − output_t) [∘ f′(potential_t)]

    Each stimulus is one time step. Potentials and traces are carried over steps,
    trace ← trace_decay·trace + (1 − trace_decay)·activity; traces are updated after the synapses read them.

    M is 1 for existing recurrent synapses and 0 otherwise; no neuron connects to itself. An absent synapse has weight
    0: the rule may change its entry of W_rec, but nothing reads it. The presynaptic activity of a recurrent synapse is
    rate_{t−1}, the postsynaptic one is rate_t.

    Bᵀ is W_out (`transpose`), fixed and random (`random`) or 0 (`zero`); errors are not propagated through time. The
    output modulators are target − output, and the diffuse neuromodulator carries the reward of the
    stimulus, or without one −mean (target − output)².

    ξ_t is standard normal. With the output `choice` one output neuron fires at each step, k with the probability
    softmax(potential)_k. Output and post are then the one-hot choice, and the error is target − probabilities, so that
    with the choice as target it is ∂ln P(choice)/∂potential. Noise and choices are drawn from the key of the stimulus.
    Without a key there is no noise, and the output is the probabilities.

    Attributes:
        neurons: recurrent neurons.
        leak: share of the potential that is replaced by the drive in one step, dt/τ; at 1 no potential remains.
        density: probability that a recurrent synapse exists.
        activation: f, activation of the recurrent neurons.
        output: g, activation of the output neurons; a config that does not set it follows the tasks. With `choice` one
            of them fires, drawn by its softmax probability.
        bias: whether recurrent and output neurons have a plastic synapse from a neuron with constant activity 1.
        feedback: feedback path of the modulators of recurrent neurons.
        derivative: whether these modulators have the factor f′(potential).
        noise: standard deviation of the Gaussian noise on the potentials of recurrent neurons at each step; the final
            evaluation on examples has none.
        weight_scale: initial input and output weights are N(0, weight_scale²/pre).
        recurrent_scale: initial recurrent weights are N(0, recurrent_scale²/(density·neurons)); this is the spectral
            radius for large networks.
        feedback_scale: random feedback weights are N(0, feedback_scale²/outputs).
        trace_decay: share of a trace left after one step.
        initial: `learned` initial weights, and `random` feedback weights, are part of θ, the same in all lifetimes;
            `random` ones are drawn for each lifetime. For `learned` the density must be 1.
        fixed: numbers of the projections that are not plastic: 0 input, 1 recurrent, 2 output.

    Raises:
        ValueError: a fixed projection that does not exist, no plastic one, or learned initial weights of synapses that
            each lifetime draws.

    References:
        Sompolinsky, Crisanti, Sommers 1988 (scale); Song, Yang, Wang 2016 (leaky potentials, fixed mask); Murray 2019
        (errors over a random path, not through time); Williams 1992 (choices); Finn, Abbeel, Levine 2017
        (learned initial weights); Lindsey, Litwin-Kumar 2020 (learned fixed feedback weights).
    """

    neurons: Annotated[int, Meta(ge=1, le=65_536)] = 16
    leak: Annotated[float, Meta(gt=0, le=1)] = 0.5
    density: Annotated[float, Meta(gt=0, le=1)] = 0.5
    activation: parts.HiddenActivation = "tanh"
    output: parts.OutputActivation = "sigmoid"
    bias: bool = True
    feedback: Literal["transpose", "random", "zero"] = "random"
    derivative: bool = False
    noise: Annotated[float, Meta(ge=0)] = 0.0
    weight_scale: Annotated[float, Meta(ge=0)] = 1.0
    recurrent_scale: Annotated[float, Meta(ge=0)] = 1.0
    feedback_scale: Annotated[float, Meta(ge=0)] = 1.0
    trace_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    initial: initial_weights.Initial = "random"
    fixed: tuple[int, ...] = ()
    paths: ClassVar[tuple[str, ...]] = ("input", "recurrent", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.plastic
        if self.initial == initial_weights.LEARNED and self.density < 1:
            raise ValueError(
                f"density = {self.density}: each lifetime draws its own synapses; allowed with initial = 'learned': 1"
            )

    @property
    def plastic(self) -> tuple[bool, ...]:
        """Plasticity of each projection."""
        return parts.plastic(self.fixed, len(self.paths))

    @property
    def stochastic(self) -> bool:
        """True if steps draw random numbers."""
        return self.output == sampling.CHOICE or self.noise > 0

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Wiring, Activity]:
        """Draw (input, recurrent and output weights [pre (+1 with bias), post], wiring, activity at rest).

        All arrays are always drawn, so that density and feedback path do not change the other numbers.
        """
        n, bias = self.neurons, int(self.bias)
        into, recurrent, out, feedback, noise = parts.normal_matrices(
            key,
            [(inputs + bias, n), (n, n), (n + bias, outputs), (outputs, n), (n, n)],
            [
                self.weight_scale / (inputs + bias) ** 0.5,
                self.recurrent_scale / (self.density * n) ** 0.5,
                self.weight_scale / (n + bias) ** 0.5,
                self.feedback_scale / outputs**0.5,
                1.0,
            ],
        )
        exists = (jax.scipy.special.ndtr(noise) <= self.density) & ~jnp.eye(n, dtype=bool)
        weights = (into, jnp.where(exists, recurrent, 0.0), out)
        wiring = Wiring(exists.astype(recurrent.dtype), feedback if self.feedback == "random" else None)
        return weights, wiring, Activity(jnp.zeros_like(recurrent[0]), *parts.no_traces(weights))

    @property
    def learns_initial(self) -> bool:
        """True if the initial weights are part of θ."""
        return self.initial == initial_weights.LEARNED

    def initial_values(self, weights: Weights, wiring: Wiring) -> dict[str, Float[Array, "..."]]:
        """Arrays that are part of θ: `weights_0`, … by projection, and `feedback_0` of the `random` path."""
        return initial_weights.named(weights, () if wiring.feedback is None else (wiring.feedback,))

    def with_initial_values(
        self, values: dict[str, Float[Array, "..."]], weights: Weights, wiring: Wiring
    ) -> tuple[Weights, Wiring]:
        """Weights and wiring with the arrays that are part of θ."""
        feedback = next(iter(initial_weights.feedback_of(values)), None)
        return initial_weights.weights_of(values), wiring._replace(feedback=feedback)

    def step(self, weights: Weights, wiring: Wiring, state: Activity, stimulus: Stimulus) -> CircuitStep:
        """Compute the response to one stimulus with a target [outputs]; the activity is that of both populations."""
        chex.assert_shape(stimulus.input, (weights[0].shape[0] - self.bias,))
        chex.assert_shape(stimulus.target, (weights[2].shape[1],))
        weights = (weights[0], jnp.where(wiring.mask > 0, weights[1], 0.0), weights[2])
        noise_key, choice_key = sampling.split_key(stimulus.key)
        pres, potentials, rate = self._forward(weights, state.potential, stimulus.input, noise_key)
        response = sampling.respond(self.output, potentials[2], choice_key)
        posts = (rate, rate, response.output)
        error = stimulus.target - response.mean
        modulator = parts.feedback_potentials(self.feedback, weights[2][: self.neurons], wiring.feedback, error)
        if self.derivative:
            modulator *= derivative(ACTIVATIONS[self.activation], potentials[1])
        modulators = (modulator, modulator, error)

        local, traces = (pres, posts, potentials, weights, modulators), (state.pre_traces, state.post_traces)
        synapses = parts.synapses(local, traces, parts.neuromodulator(stimulus, error))
        traces = parts.decayed(traces, (pres, posts), self.trace_decay)
        after = Activity(potentials[1], *traces)
        return CircuitStep(after, response.output, synapses, posts[1:], response.log_probability)

    def _forward(
        self,
        weights: Weights,
        before: Float[Array, " neurons"],
        signal: Float[Array, " inputs"],
        noise_key: PRNGKey | None,
    ) -> tuple[parts.Vectors, parts.Vectors, Float[Array, " neurons"]]:
        """Presynaptic activities and potentials of each projection, and the rates of the recurrent neurons."""
        f = ACTIVATIONS[self.activation]
        inputs, rate_before = parts.append_bias(signal, self.bias), f(before)
        drive = inputs @ weights[0] + rate_before @ weights[1]
        potential = (1 - self.leak) * before + self.leak * drive
        potential = sampling.noisy(potential, self.noise, noise_key)
        rate = f(potential)
        rate_and_bias = parts.append_bias(rate, self.bias)
        return (inputs, rate_before, rate_and_bias), (potential, potential, rate_and_bias @ weights[2]), rate
