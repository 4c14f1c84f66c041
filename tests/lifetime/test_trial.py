from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Polynomial
from metarule.lifetime.trial import try_out
from metarule.types import CircuitStep, Synapse


@dataclass(frozen=True)
class Rule:
    fault: str = ""

    def init(self, key):
        return jnp.zeros(())

    def delta(self, theta, memory, synapse):
        change = theta * synapse.pre
        return (jnp.stack([change] * 3), memory) if self.fault == "vector" else (change, memory)


@dataclass(frozen=True)
class Readout:
    fault: str = ""

    def init(self, key, inputs, outputs):
        return (jnp.zeros((inputs, outputs)),), (), ()

    def step(self, weights, wiring, state, stimulus):
        output = jax.nn.sigmoid(stimulus.input @ weights[0])
        if self.fault == "bare":
            return output
        synapse = Synapse(stimulus.input, output, output, weights[0], modulator=stimulus.target - output)
        return CircuitStep(state, output[None] if self.fault == "batch" else output, (synapse,))


class Tasks(Boolean, frozen=True, kw_only=True, tag="faulty"):
    fault: str = ""

    def stimulus(self, task, t, key):
        shown = super().stimulus(task, t, key)
        return shown._replace(input=shown.input[:1]) if self.fault == "short" else shown

    def metrics(self, output, target):
        found = super().metrics(output, target)
        return found | {"each": output[:, 0]} if self.fault == "vector" else found


SOUND = Lifetime(rule=Rule(), circuit=Readout(), tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=5))


def test_sound_components_pass():
    built_in = Lifetime(rule=Polynomial(), circuit=Feedforward(), tasks=Boolean(), inner_loop=InnerLoop(steps=5))
    assert [try_out(lifetime) for lifetime in (SOUND, built_in)] == [None, None]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"circuit": Readout("bare")}, "circuit: step returns a .*; allowed: a CircuitStep"),
        ({"circuit": Readout("batch")}, r"circuit: the shape of the output = \(1, 1\); allowed: \(1,\)"),
        (
            {"tasks": Tasks(inputs=2, fault="short")},
            r"tasks: the shape of the input of a stimulus = \(1,\); allowed: \(2,\)",
        ),
        ({"tasks": Tasks(inputs=2, fault="vector")}, r"tasks: the shape of the metric 'each' = .*; allowed: \(\)"),
    ],
)
def test_faults_are_named(part, message):
    with pytest.raises(ValueError, match=message):
        try_out(Lifetime(**{name: getattr(SOUND, name) for name in SOUND.__struct_fields__} | part))


def test_a_change_of_a_synapse_is_a_number():
    with pytest.raises((TypeError, ValueError)):
        try_out(Lifetime(**{name: getattr(SOUND, name) for name in SOUND.__struct_fields__} | {"rule": Rule("vector")}))
