"""The battery catches a broken circuit, and names the check that failed."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from metarule.testing import CIRCUIT_CHECKS, check_circuit
from metarule.types import CircuitStep, Synapse


@dataclasses.dataclass(frozen=True)
class Linear:
    """A circuit of thirty lines: one linear layer with a running mean of its output as state."""

    def init(self, key, inputs, outputs):
        return (jax.random.normal(key, (inputs, outputs)),), (), jnp.zeros(outputs)

    def step(self, weights, wiring, state, stimulus):
        output = stimulus.input @ weights[0]
        synapse = Synapse(stimulus.input, output, output, weights[0], stimulus.target - output)
        return CircuitStep(0.5 * (state + output), output, (synapse,), (output,))


class NoStep:
    def init(self, key, inputs, outputs):
        return (), (), ()


class NotEqualToItsCopy(Linear):
    __eq__, __hash__ = object.__eq__, object.__hash__


class OutputOfAnotherShape(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(output=jnp.append(result.output, 0.0))


class StateThatGrows(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(state=jnp.append(result.state, 0.0))


class UnevenVariables(Linear):
    def init(self, key, inputs, outputs):
        (weight,), wiring, state = super().init(key, inputs, outputs)
        return (weight, weight), wiring, state

    def step(self, weights, wiring, state, stimulus):
        result = super().step(weights[:1], wiring, state, stimulus)
        (synapse,) = result.synapses
        return result._replace(synapses=(synapse, synapse._replace(weight=weights[1], pre_trace=synapse.pre)))


class ForeignWeights(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(synapses=(result.synapses[0]._replace(weight=result.synapses[0].weight + 1),))


class HalfPrecision(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(output=result.output.astype(jnp.float16))


class NeverTheSame(Linear):
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


class MixedBatch(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(output=_mixed(result.output))


class NaNAtRest(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(output=result.output / jnp.sum(jnp.abs(given[-1].input)))


@jax.custom_batching.custom_vmap
def _mixed(output):
    return output


@_mixed.def_vmap
def _(size, batched, output):
    return jnp.broadcast_to(jnp.mean(output, axis=0), output.shape), True


@jax.custom_jvp
def _wrong(output):
    return output


_wrong.defjvp(lambda values, tangents: (values[0], 2 * tangents[0]))


class WrongGradient(Linear):
    def step(self, *given):
        result = super().step(*given)
        return result._replace(output=_wrong(result.output))


class NoiseWithoutKey(Linear):
    stochastic = True


class HiddenNoise(Linear):
    def step(self, *given):
        result = super().step(*given)
        key = given[-1].key
        return result if key is None else result._replace(output=result.output + jax.random.normal(key))


class BelowItsBound(Linear):
    lower_bounds = (0.0,)


class LosesItsValues(Linear):
    learns_initial = True

    def initial_values(self, weights, wiring):
        return {"weights": weights[0]}

    def with_initial_values(self, values, weights, wiring):
        return weights, wiring


BROKEN = {
    NoStep: "protocol",
    NotEqualToItsCopy: "protocol",
    OutputOfAnotherShape: "shapes",
    StateThatGrows: "shapes",
    UnevenVariables: "offered variables",
    ForeignWeights: "own weights",
    HalfPrecision: "dtypes",
    NeverTheSame: "one trace",
    MixedBatch: "batch",
    NaNAtRest: "finite at rest",
    WrongGradient: "gradients",
    NoiseWithoutKey: "randomness",
    HiddenNoise: "randomness",
    BelowItsBound: "lower bounds",
    LosesItsValues: "initial values",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_circuit_fails_the_check_that_it_breaks(broken):
    with pytest.raises(AssertionError, match=f"{broken.__name__} fails '{BROKEN[broken]}'"):
        check_circuit(broken(), checks=(BROKEN[broken],))


def test_every_check_catches_something():
    assert set(BROKEN.values()) == set(CIRCUIT_CHECKS)


def test_a_sound_circuit_passes():
    check_circuit(Linear(), inputs=4, outputs=2)
