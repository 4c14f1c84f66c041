"""The circuit of classical conditioning, as in Aplysia: named neurons, and synapses one by one."""

from functools import lru_cache
from typing import Annotated, NamedTuple

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
        weight: its strength at birth: a number, or two between which it is drawn evenly.
        plastic: whether the rule changes it.
        modulator: neuron whose activity the rule sees as modulator; none if empty.
    """

    pre: Annotated[str, Meta(description="presynaptic neuron")]
    post: Annotated[str, Meta(description="postsynaptic neuron")]
    weight: Annotated[
        float | tuple[float, float], Meta(description="strength at birth: a number, or two to draw it between")
    ]
    plastic: Annotated[bool, Meta(description="whether the rule changes it")] = False
    modulator: Annotated[str, Meta(description="neuron that modulates its plasticity")] = ""

    @property
    def between(self) -> tuple[float, float]:
        """The two numbers between which its strength is drawn."""
        return self.weight if isinstance(self.weight, tuple) else (self.weight, self.weight)


# Sensory neurons have weak innate synapses on the motor neuron; the US drives motor and facilitatory neuron.
APLYSIA = (
    Connection(pre="US", post=MOTOR, weight=1.0),
    Connection(pre="US", post="facilitatory", weight=1.0),
    Connection(pre="CS1", post=MOTOR, weight=(0.04, 0.07), plastic=True, modulator="facilitatory"),
    Connection(pre="CS2", post=MOTOR, weight=(0.04, 0.07), plastic=True, modulator="facilitatory"),
)


class ConditioningActivity(NamedTuple):
    """What the circuit remembers of its own activity.

    Attributes:
        rates: activity of all neurons at the last step.
        traces: recent activity of all neurons.
        concentration: of the diffuse neuromodulator.
    """

    rates: Float[Array, " neurons"]
    traces: Float[Array, " neurons"]
    concentration: Float[Array, ""]


class ConditioningCircuit(
    Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conditioning"
):
    """Sensory neurons CS1, CS2 and US, facilitatory neurons, and a motor neuron whose activity is the response.

    rate_j = max(0, Σᵢ w_ij·rateᵢ) of interneurons,  response = Σᵢ w_ij·rateᵢ of the motor neuron

    Neurons are computed in the order sensory, interneurons, motor; a synapse from a neuron that comes later in this
    order, or from a neuron to itself, transmits with a delay of one step. The response is a deviation from the motor
    neuron's resting rate, so that inhibition makes it negative. Traces are seen before the present activity enters
    them: trace ← d·trace + (1 − d)·rate.

    Attributes:
        interneurons: facilitatory and other neurons between sensory and motor ones, by name.
        synapses: all synapses; which are plastic, and which neuron modulates each.
        trace_decay: d of the pre and post traces, a step.
        neuromodulator_source: neuron that releases the diffuse neuromodulator.
        neuromodulator_decay: share of the neuromodulator that stays from one step to the next.

    Raises:
        ValueError: a synapse from, to or modulated by a neuron that does not exist, one onto a sensory neuron, two
            between the same neurons, or no plastic synapse.

    References:
        Hawkins, Abrams, Carew, Kandel 1983 (presynaptic facilitation in Aplysia).
    """

    interneurons: Annotated[
        tuple[str, ...], Meta(max_length=32, description="neurons between sensory and motor ones")
    ] = ("facilitatory",)
    synapses: Annotated[tuple[Connection, ...], Meta(max_length=256, description="all synapses, one by one")] = APLYSIA
    trace_decay: Annotated[float, Meta(ge=0, lt=1, description="decay of pre and post traces, a step")] = 0.4
    neuromodulator_source: Annotated[
        str, Meta(description="neuron that neuromodulator_source the diffuse neuromodulator")
    ] = "US"
    neuromodulator_decay: Annotated[
        float, Meta(ge=0, lt=1, description="share of the neuromodulator that stays, a step")
    ] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.neurons
        if len(set(names)) < len(names):
            raise ValueError(f"interneurons: {', '.join(self.interneurons)}: a neuron of that name is there already")
        for name in self.interneurons:
            if not name.isidentifier():
                raise ValueError(f"interneurons: '{name}'; allowed: letters, digits and _, not beginning with a digit")
        seen = set()
        for synapse in self.synapses:
            what = f"synapse {synapse.pre} → {synapse.post}"
            ends = {"pre": synapse.pre, "post": synapse.post} | (
                {"modulator": synapse.modulator} if synapse.modulator else {}
            )
            for role, name in ends.items():
                if name not in names:
                    raise ValueError(f"{what}: {role} = '{name}' is no neuron; allowed: {', '.join(names)}")
            if synapse.post in STIMULI:
                raise ValueError(f"{what}: post = '{synapse.post}' is a sensory neuron, which has no inputs")
            if synapse.between[0] > synapse.between[1]:
                raise ValueError(f"{what}: weight = {list(synapse.between)}; allowed: two numbers, the smaller first")
            if (synapse.pre, synapse.post) in seen:
                raise ValueError(f"{what} stands twice")
            seen.add((synapse.pre, synapse.post))
        if self.neuromodulator_source not in names:
            raise ValueError(
                f"neuromodulator_source = '{self.neuromodulator_source}' is no neuron; allowed: {', '.join(names)}"
            )
        if not any(synapse.plastic for synapse in self.synapses):
            raise ValueError("synapses: none is plastic, so that there is nothing to learn")

    @property
    def neurons(self) -> tuple[str, ...]:
        """All neurons, in the order in which they are computed."""
        return (*STIMULI, *self.interneurons, MOTOR)

    @property
    def output(self) -> str:
        """The response of the motor neuron."""
        return MOTOR

    @property
    def sizes(self) -> tuple[int, int] | None:
        """The stimuli, and one motor neuron."""
        return (len(STIMULI), 1)

    @property
    def paths(self) -> tuple[str, ...]:
        """Plastic synapses onto one neuron that share their modulator are one projection; its path is that neuron."""
        return tuple(self.neurons[projection.post] for projection in _projections(self))

    def init(
        self, key: PRNGKey, inputs: int, outputs: int
    ) -> tuple[Weights, Float[Array, " fixed"], ConditioningActivity]:
        """Draw fresh weights.

        Args:
            key: decides the draw.
            inputs: number of stimuli, 3.
            outputs: number of motor neurons, 1.

        Returns:
            (plastic weights [pre, 1] by projection, fixed weights in the order of the synapses, activity at rest).
        """
        chex.assert_equal((inputs, outputs), (len(STIMULI), 1))
        low, high = jnp.array([synapse.between for synapse in self.synapses]).T
        drawn = low + (high - low) * jax.random.uniform(key, low.shape)
        plastic = tuple(drawn[jnp.array(projection.synapses)][:, None] for projection in _projections(self))
        fixed = drawn[jnp.array(_fixed(self), int)]
        rest = jnp.zeros(len(self.neurons))
        return plastic, fixed, ConditioningActivity(rest, rest, jnp.zeros(()))

    def step(
        self, weights: Weights, wiring: Float[Array, " fixed"], state: ConditioningActivity, stimulus: Stimulus
    ) -> CircuitStep:
        """Compute the response to the stimuli of one step.

        Args:
            weights: as from `init`.
            wiring: as from `init`.
            state: as after the previous step.
            stimulus: intensities of CS1, CS2 and US; the target is not looked at.

        Returns:
            (activity, response [1], what the synapses of each projection see).
        """
        chex.assert_shape(stimulus.input, (len(STIMULI),))
        matrix = self._matrix(weights, wiring)
        rates, potentials = state.rates.at[: len(STIMULI)].set(stimulus.input), jnp.zeros_like(state.rates)
        for neuron in range(len(STIMULI), len(self.neurons)):
            potentials = potentials.at[neuron].set(rates @ matrix[:, neuron])
            rectified = neuron < len(self.neurons) - 1
            rates = rates.at[neuron].set(jax.nn.relu(potentials[neuron]) if rectified else potentials[neuron])
        kept = self.neuromodulator_decay
        concentration = kept * state.concentration + (1 - kept) * rates[self.neurons.index(self.neuromodulator_source)]
        projections = tuple(
            self._seen(projection, weight, state, rates, potentials, concentration)
            for projection, weight in zip(_projections(self), weights, strict=True)
        )
        traces = self.trace_decay * state.traces + (1 - self.trace_decay) * rates
        after = ConditioningActivity(rates, traces, concentration)
        return CircuitStep(after, rates[-1:], projections, (rates[len(STIMULI) :],))

    def _matrix(self, weights: Weights, wiring: Float[Array, " fixed"]) -> Float[Array, "neurons neurons"]:
        """Strength of every synapse [pre, post]; 0 where there is none."""
        order = [number for projection in _projections(self) for number in projection.synapses] + list(_fixed(self))
        ends = [(self.neurons.index(self.synapses[n].pre), self.neurons.index(self.synapses[n].post)) for n in order]
        values = jnp.concatenate([*(weight[:, 0] for weight in weights), wiring])
        pre, post = jnp.array(ends).T
        return jnp.zeros((len(self.neurons),) * 2, values.dtype).at[pre, post].set(values)

    def _seen(
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
    """Plastic synapses onto one neuron under one modulator: numbers of the synapses, and of the neurons."""

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
