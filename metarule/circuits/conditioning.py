"""Circuit of classical conditioning, as in Aplysia: named neurons and single synapses."""

from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.types import STIMULI, CircuitStep, PRNGKey, Stimulus, Synapse, Weights

__all__ = ["MOTOR", "ConditioningActivity", "ConditioningCircuit", "Connection"]

MOTOR = "motor"


class Connection(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One synapse.

    Attributes:
        pre: presynaptic neuron.
        post: postsynaptic neuron.
        weight: initial weight: a number, or the ends of a uniform distribution.
        plastic: whether the rule changes it.
        modulator: neuron whose activity is the modulator of the synapse; none if empty.
    """

    pre: str
    post: str
    weight: float | tuple[float, float]
    plastic: bool = False
    modulator: str = ""

    @property
    def weight_range(self) -> tuple[float, float]:
        """Ends of the distribution of the initial weight."""
        return self.weight if isinstance(self.weight, tuple) else (self.weight, self.weight)


# Sensory neurons have weak innate synapses on the motor neuron; the US drives the motor and facilitatory neurons.
APLYSIA = (
    Connection(pre="US", post=MOTOR, weight=1.0),
    Connection(pre="US", post="facilitatory", weight=1.0),
    Connection(pre="CS1", post=MOTOR, weight=(0.04, 0.07), plastic=True, modulator="facilitatory"),
    Connection(pre="CS2", post=MOTOR, weight=(0.04, 0.07), plastic=True, modulator="facilitatory"),
)


class ConditioningActivity(NamedTuple):
    """Activity carried from one step to the next.

    Attributes:
        rates: activity of all neurons at the last step.
        traces: recent activity of all neurons.
        concentration: concentration of the diffuse neuromodulator.
    """

    rates: Float[Array, " neurons"]
    traces: Float[Array, " neurons"]
    concentration: Float[Array, ""]


class ConditioningCircuit(
    Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conditioning"
):
    """Sensory neurons CS1, CS2 and US, interneurons, and a motor neuron whose activity is the response.

    rate_j = max(0, Σᵢ w_ij·rateᵢ) of interneurons,  response = Σᵢ w_ij·rateᵢ of the motor neuron

    Neurons are updated in the order sensory, interneurons, motor. A synapse from a later neuron in this order, or from
    a neuron to itself, has a delay of one step. The response is a deviation from the resting rate of the motor neuron,
    so that inhibition makes it negative. Traces are updated after the synapses read them:
    trace ← d·trace + (1 − d)·rate.

    Attributes:
        interneurons: names of the facilitatory and other neurons between sensory and motor neurons.
        synapses: all synapses, with their plasticity and modulators.
        trace_decay: decay d of pre and post traces in a step.
        neuromodulator_source: neuron that releases the diffuse neuromodulator.
        neuromodulator_decay: share of the neuromodulator left after a step.

    Raises:
        ValueError: a synapse from, to or modulated by an unknown neuron, a synapse onto a sensory neuron, two synapses
            between the same neurons, or no plastic synapse.

    References:
        Hawkins, Abrams, Carew, Kandel 1983 (presynaptic facilitation in Aplysia).
    """

    interneurons: Annotated[tuple[str, ...], Meta(max_length=32)] = ("facilitatory",)
    synapses: Annotated[tuple[Connection, ...], Meta(max_length=256)] = APLYSIA
    trace_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.4
    neuromodulator_source: str = "US"
    neuromodulator_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    output: ClassVar[str] = MOTOR
    sizes: ClassVar[tuple[int, int]] = (len(STIMULI), 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.neurons
        if len(set(names)) < len(names):
            raise ValueError(
                f"interneurons = {', '.join(self.interneurons)}; allowed: distinct names other than those of "
                f"{', '.join((*STIMULI, MOTOR))}"
            )
        for name in self.interneurons:
            if not name.isidentifier():
                raise ValueError(f"interneurons: '{name}'; allowed: letters, digits and _, no digit first")
        pairs = set()
        for synapse in self.synapses:
            label, weight_range = f"synapse {synapse.pre} → {synapse.post}", synapse.weight_range
            for role in ("pre", "post", "modulator"):
                name = getattr(synapse, role)
                if name not in names and not (role == "modulator" and name == ""):
                    raise ValueError(f"{label}: {role} = '{name}' is not a neuron; allowed: {', '.join(names)}")
            if synapse.post in STIMULI:
                raise ValueError(f"{label}: post = '{synapse.post}'; allowed: all but sensory neurons")
            if weight_range[0] > weight_range[1]:
                raise ValueError(f"{label}: weight = {list(weight_range)}; allowed: two numbers, the smaller first")
            if (synapse.pre, synapse.post) in pairs:
                raise ValueError(f"{label} is given twice")
            pairs.add((synapse.pre, synapse.post))
        if self.neuromodulator_source not in names:
            raise ValueError(
                f"neuromodulator_source = '{self.neuromodulator_source}' is not a neuron; allowed: {', '.join(names)}"
            )
        if not any(synapse.plastic for synapse in self.synapses):
            raise ValueError("synapses: none is plastic; allowed: at least one")

    @property
    def neurons(self) -> tuple[str, ...]:
        """All neurons, in the order of updates."""
        return (*STIMULI, *self.interneurons, MOTOR)

    @property
    def paths(self) -> tuple[str, ...]:
        """Target neuron of each projection: the plastic synapses onto one neuron with one modulator."""
        return tuple(self.neurons[projection.post] for projection in _projections(self))

    def init(
        self, key: PRNGKey, inputs: int, outputs: int
    ) -> tuple[Weights, Float[Array, " fixed"], ConditioningActivity]:
        """Draw (plastic weights [pre, 1] by projection, fixed weights in the order of `synapses`, activity at rest)."""
        chex.assert_equal((inputs, outputs), self.sizes)
        low, high = jnp.array([synapse.weight_range for synapse in self.synapses]).T
        initial = low + (high - low) * jax.random.uniform(key, low.shape)
        plastic = tuple(initial[jnp.array(projection.synapses)][:, None] for projection in _projections(self))
        fixed = initial[jnp.array(_fixed(self), int)]
        rest = jnp.zeros(len(self.neurons))
        return plastic, fixed, ConditioningActivity(rest, rest, jnp.zeros(()))

    def step(
        self, weights: Weights, wiring: Float[Array, " fixed"], state: ConditioningActivity, stimulus: Stimulus
    ) -> CircuitStep:
        """Compute the response [1] to the intensities of CS1, CS2 and US; the target is ignored."""
        chex.assert_shape(stimulus.input, (len(STIMULI),))
        matrix = self._matrix(weights, wiring)
        rates, potentials = state.rates.at[: len(STIMULI)].set(stimulus.input), jnp.zeros_like(state.rates)
        for neuron in range(len(STIMULI), len(self.neurons)):
            potentials = potentials.at[neuron].set(rates @ matrix[:, neuron])
            rectified = neuron < len(self.neurons) - 1
            rates = rates.at[neuron].set(jax.nn.relu(potentials[neuron]) if rectified else potentials[neuron])
        decay, source = self.neuromodulator_decay, self.neurons.index(self.neuromodulator_source)
        concentration = decay * state.concentration + (1 - decay) * rates[source]
        projections = tuple(
            self._local_variables(projection, weight, state, rates, potentials, concentration)
            for projection, weight in zip(_projections(self), weights, strict=True)
        )
        traces = self.trace_decay * state.traces + (1 - self.trace_decay) * rates
        after = ConditioningActivity(rates, traces, concentration)
        return CircuitStep(after, rates[-1:], projections, (rates[len(STIMULI) :],))

    def _matrix(self, weights: Weights, wiring: Float[Array, " fixed"]) -> Float[Array, "neurons neurons"]:
        """Weight of every synapse [pre, post]; 0 for absent synapses."""
        order = [number for projection in _projections(self) for number in projection.synapses] + list(_fixed(self))
        ends = [(self.neurons.index(self.synapses[n].pre), self.neurons.index(self.synapses[n].post)) for n in order]
        values = jnp.concatenate([*(weight[:, 0] for weight in weights), wiring])
        pre, post = jnp.array(ends).T
        return jnp.zeros((len(self.neurons),) * 2, values.dtype).at[pre, post].set(values)

    def _local_variables(
        self,
        projection: "_Projection",
        weight: Float[Array, "pre 1"],
        before: ConditioningActivity,
        rates: Float[Array, " neurons"],
        potentials: Float[Array, " neurons"],
        concentration: Float[Array, ""],
    ) -> Synapse:
        pre, post = jnp.array(projection.pre), jnp.array([projection.post])
        late = pre >= post
        return Synapse(
            pre=jnp.where(late, before.rates[pre], rates[pre]),
            post=rates[post],
            potential=potentials[post],
            weight=weight,
            modulator=jnp.zeros(1, rates.dtype) if projection.modulator is None else rates[projection.modulator][None],
            pre_trace=before.traces[pre],
            post_trace=before.traces[post],
            neuromodulator=concentration,
        )


class _Projection(NamedTuple):
    """Plastic synapses onto one neuron with one modulator: numbers of the synapses and neurons."""

    synapses: tuple[int, ...]
    pre: tuple[int, ...]
    post: int
    modulator: int | None


@lru_cache(maxsize=64)
def _projections(circuit: ConditioningCircuit) -> tuple[_Projection, ...]:
    groups: dict[tuple[str, str], list[int]] = {}
    for number, synapse in enumerate(circuit.synapses):
        if synapse.plastic:
            groups.setdefault((synapse.post, synapse.modulator), []).append(number)
    index = circuit.neurons.index
    return tuple(
        _Projection(
            synapses=tuple(members),
            pre=tuple(index(circuit.synapses[number].pre) for number in members),
            post=index(post),
            modulator=index(modulator) if modulator else None,
        )
        for (post, modulator), members in groups.items()
    )


def _fixed(circuit: ConditioningCircuit) -> tuple[int, ...]:
    return tuple(number for number, synapse in enumerate(circuit.synapses) if not synapse.plastic)
