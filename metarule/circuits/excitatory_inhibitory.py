"""Leaky networks of excitatory and inhibitory neurons."""

from typing import Annotated, ClassVar, Literal, NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.activations import ACTIVATIONS, derivative
from metarule.circuits import initial_weights, parts, sampling
from metarule.config.schema import Checked
from metarule.types import CircuitStep, PRNGKey, Stimulus, Weights

__all__ = ["ExcitatoryInhibitory", "PopulationActivity"]

Size = Annotated[int, Meta(ge=1, le=65_536)]
# Mean of |x| for a standard normal x.
_MEAN_SIZE = 0.7978845608028654


class PopulationActivity(NamedTuple):
    """Activity carried from one step to the next; zeros at rest.

    Attributes:
        potentials: potentials of the excitatory and of the inhibitory neurons.
        pre_traces: recent presynaptic activity, by projection [pre].
        post_traces: recent postsynaptic activity, by projection [post].
    """

    potentials: parts.Vectors
    pre_traces: parts.Vectors
    post_traces: parts.Vectors


class ExcitatoryInhibitory(
    Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="excitatory_inhibitory"
):
    """A rate network whose neurons are excitatory or inhibitory, and stay so (Dale's law).

    drive_E = W_inᵀ·[input_t; 1] + W_EEᵀ·rate_E,t−1 − W_IEᵀ·rate_I,t−1
    drive_I = W_EIᵀ·rate_E,t−1 − W_IIᵀ·rate_I,t−1
    potential_t = (1 − leak)·potential_{t−1} + leak·drive + noise·ξ_t,  rate_t = f(potential_t) ≥ 0
    output_t = g(W_outᵀ·[rate_E,t; 1])

    Each stimulus is one time step. Projections are in the order of `paths`: input, EE, EI (from E to I), IE (from I to
    E), II, output. Each is a path, so that with `inner_loop.theta = "per_path"` each type of synapse has its own θ.
    E → I → E is lateral inhibition. No neuron connects to itself: the rule may change the entry of such a synapse, but
    nothing reads it.

    Weights between E and I neurons are sizes ≥ 0, and the network subtracts what inhibitory neurons send. Local
    variables hold the size, and the rule changes the size, which stays ≥ 0: a positive change strengthens inhibitory
    and excitatory synapses alike. Input and output weights have any sign, because inputs may be negative, such as codes
    of ±1, and because the output neurons are a readout outside the population, like muscles that pull both ways.

    The presynaptic activity of a synapse between E and I neurons is rate_{t−1}, the postsynaptic one is rate_t. Traces,
    trace ← trace_decay·trace + (1 − trace_decay)·activity, are updated after the synapses read them.

    Modulators of the outputs are the errors target − output. Those of E and I neurons are Bᵀ·error [∘ f′(potential)]
    with fixed and random B (`random`); for E neurons W_out·error, and 0 for I neurons, which send nothing to the
    outputs (`transpose`); or 0 (`zero`). The diffuse neuromodulator carries the reward of the stimulus, or without one
    −mean (target − output)².

    ξ_t is standard normal. With the output `choice` one output neuron fires at each step, k with the probability
    softmax(potential)_k. Output and post are then the one-hot choice, and the error is target − probabilities. Noise
    and choices are drawn from the key of the stimulus. Without a key there is no noise, and the output is the
    probabilities.

    Where all rates equal r, recurrent synapses drive each neuron by (excitation − inhibition)·r on average. By default
    inhibition dominates, so that activity is stable.

    Attributes:
        excitatory: excitatory neurons.
        inhibitory: inhibitory neurons.
        leak: share of the potential that is replaced by the drive in one step, dt/τ; at 1 no potential remains.
        activation: f, activation of excitatory and inhibitory neurons; with `relu` and `softplus`, activity explodes
            where a rule makes EE synapses strong.
        output: g, activation of the output neurons; a config that does not set it follows the tasks. With `choice` one
            of them fires, drawn by its softmax probability.
        bias: whether excitatory and output neurons have a plastic synapse from a neuron with constant activity 1.
        feedback: feedback path of the modulators of excitatory and inhibitory neurons.
        derivative: whether these modulators have the factor f′(potential).
        noise: standard deviation of the Gaussian noise on the potentials of both populations at each step; the final
            evaluation on examples has none.
        weight_scale: initial input and output weights are N(0, weight_scale²/pre).
        excitation: mean total size of the excitatory synapses onto a neuron; each is half-normal.
        inhibition: mean total size of the inhibitory synapses onto a neuron; each is half-normal.
        feedback_scale: random feedback weights are N(0, feedback_scale²/outputs).
        trace_decay: share of a trace left after one step.
        initial: `learned` initial weights, and `random` feedback weights, are part of θ, the same in all lifetimes;
            `random` ones are drawn for each lifetime. Of a learned size below 0 the absolute value counts.
        fixed: numbers of the projections that are not plastic: 0 input, 1 EE, 2 EI, 3 IE, 4 II, 5 output.

    Raises:
        ValueError: a fixed projection that does not exist, or no plastic one.

    References:
        Eccles, Fatt, Koketsu 1954 (Dale's law); Song, Yang, Wang 2016 (training under it); Vogels et al. 2011
        (plasticity of inhibitory synapses); Finn, Abbeel, Levine 2017; Lindsey, Litwin-Kumar 2020 (learned initial
        and feedback weights).
    """

    excitatory: Size = 16
    inhibitory: Size = 4
    leak: Annotated[float, Meta(gt=0, le=1)] = 0.5
    activation: Literal["relu", "softplus", "sigmoid"] = "sigmoid"
    output: parts.OutputActivation = "sigmoid"
    bias: bool = True
    feedback: Literal["transpose", "random", "zero"] = "random"
    derivative: bool = False
    noise: Annotated[float, Meta(ge=0)] = 0.0
    weight_scale: Annotated[float, Meta(ge=0)] = 1.0
    excitation: Annotated[float, Meta(ge=0)] = 1.0
    inhibition: Annotated[float, Meta(ge=0)] = 2.0
    feedback_scale: Annotated[float, Meta(ge=0)] = 1.0
    trace_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    initial: initial_weights.Initial = "random"
    fixed: tuple[int, ...] = ()
    paths: ClassVar[tuple[str, ...]] = ("input", "EE", "EI", "IE", "II", "output")
    lower_bounds: ClassVar[tuple[float | None, ...]] = (None, 0.0, 0.0, 0.0, 0.0, None)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.plastic

    @property
    def plastic(self) -> tuple[bool, ...]:
        """Plasticity of each projection."""
        return parts.plastic(self.fixed, len(self.paths))

    @property
    def stochastic(self) -> bool:
        """True if steps draw random numbers."""
        return self.output == sampling.CHOICE or self.noise > 0

    def init(self, key: PRNGKey, inputs: int, outputs: int) -> tuple[Weights, Weights, PopulationActivity]:
        """Draw (weights [pre (+1 with bias), post] by projection, feedback weights onto E and I, activity at rest).

        All arrays are always drawn, so that the feedback path does not change the other numbers.
        """
        e, i, bias = self.excitatory, self.inhibitory, int(self.bias)
        shapes = [(inputs + bias, e), (e, e), (e, i), (i, e), (i, i), (e + bias, outputs), (outputs, e), (outputs, i)]
        signed = [
            scale / pre**0.5 for scale, pre in ((self.weight_scale, inputs + bias), (self.weight_scale, e + bias))
        ]
        excitation, inhibition = (
            [total / _MEAN_SIZE / n] * 2 for total, n in ((self.excitation, e), (self.inhibition, i))
        )
        feedback_scales = [self.feedback_scale / outputs**0.5] * 2
        scales = [signed[0], *excitation, *inhibition, signed[1], *feedback_scales]
        *drawn, to_e, to_i = parts.normal_matrices(key, shapes, scales)
        weights = self._without_own(self._sized(tuple(drawn)))
        pre_traces, post_traces = parts.no_traces(weights)
        rest = PopulationActivity((post_traces[1], post_traces[2]), pre_traces, post_traces)
        return weights, (to_e, to_i) if self.feedback == "random" else (), rest

    @property
    def learns_initial(self) -> bool:
        """True if the initial weights are part of θ."""
        return self.initial == initial_weights.LEARNED

    def initial_values(self, weights: Weights, wiring: Weights) -> dict[str, Float[Array, "..."]]:
        """Arrays that are part of θ: `weights_0`, … by projection, and `feedback_0` and `feedback_1` onto E and I."""
        return initial_weights.named(weights, wiring)

    def with_initial_values(
        self, values: dict[str, Float[Array, "..."]], weights: Weights, wiring: Weights
    ) -> tuple[Weights, Weights]:
        """Weights and wiring with the arrays that are part of θ; sizes are absolute values."""
        return self._sized(initial_weights.weights_of(values)), initial_weights.feedback_of(values)

    def step(self, weights: Weights, wiring: Weights, state: PopulationActivity, stimulus: Stimulus) -> CircuitStep:
        """Compute the response to one stimulus with a target [outputs]; the activity is that of E, I and outputs."""
        chex.assert_shape(stimulus.input, (weights[0].shape[0] - self.bias,))
        chex.assert_shape(stimulus.target, (weights[5].shape[1],))
        weights = self._without_own(weights)
        noise_key, choice_key = sampling.split_key(stimulus.key)
        f = ACTIVATIONS[self.activation]
        e_before, i_before = map(f, state.potentials)
        inputs = parts.append_bias(stimulus.input, self.bias)
        drives = (
            inputs @ weights[0] + e_before @ weights[1] - i_before @ weights[3],
            e_before @ weights[2] - i_before @ weights[4],
        )
        e_potential, i_potential = populations = tuple(
            sampling.noisy((1 - self.leak) * before + self.leak * drive, self.noise, noise_key, number)
            for number, (before, drive) in enumerate(zip(state.potentials, drives, strict=True))
        )
        e_rate, i_rate = map(f, populations)
        readout = parts.append_bias(e_rate, self.bias)
        output_potential = readout @ weights[5]
        response = sampling.respond(self.output, output_potential, choice_key)
        error = stimulus.target - response.mean
        e_modulator, i_modulator = self._modulators(weights[5], wiring, populations, error)

        pres = (inputs, e_before, e_before, i_before, i_before, readout)
        posts = (e_rate, e_rate, i_rate, e_rate, i_rate, response.output)
        potentials = (e_potential, e_potential, i_potential, e_potential, i_potential, output_potential)
        modulators = (e_modulator, e_modulator, i_modulator, e_modulator, i_modulator, error)
        traces = (state.pre_traces, state.post_traces)
        local = (pres, posts, potentials, weights, modulators)
        synapses = parts.synapses(local, traces, parts.neuromodulator(stimulus, error))
        after = PopulationActivity(populations, *parts.decayed(traces, (pres, posts), self.trace_decay))
        return CircuitStep(
            after, response.output, synapses, (e_rate, i_rate, response.output), response.log_probability
        )

    def _modulators(
        self,
        readout: Float[Array, "pre outputs"],
        wiring: Weights,
        potentials: parts.Vectors,
        error: Float[Array, " _"],
    ) -> parts.Vectors:
        """Modulators of excitatory and inhibitory neurons."""
        outgoing = readout[: self.excitatory], jnp.zeros((self.inhibitory, len(error)), readout.dtype)
        modulators = [
            parts.feedback_potentials(self.feedback, forward, separate, error)
            for forward, separate in zip(outgoing, wiring or (None, None), strict=True)
        ]
        if self.derivative:
            f = ACTIVATIONS[self.activation]
            modulators = [one * derivative(f, potential) for one, potential in zip(modulators, potentials, strict=True)]
        return tuple(modulators)

    def _sized(self, weights: Weights) -> Weights:
        """Weights of which those with a lower bound are absolute values."""
        bounds = zip(weights, self.lower_bounds, strict=True)
        return tuple(weight if bound is None else jnp.abs(weight) for weight, bound in bounds)

    def _without_own(self, weights: Weights) -> Weights:
        """Weights without synapses from a neuron to itself."""
        into, ee, ei, ie, ii, out = weights
        ee, ii = (jnp.where(jnp.eye(len(one), dtype=bool), 0.0, one) for one in (ee, ii))
        return into, ee, ei, ie, ii, out
