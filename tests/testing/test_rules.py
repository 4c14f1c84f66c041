"""The battery catches a broken rule, and names the check that failed."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from metarule.rules import Lifted, Polynomial, lift
from metarule.testing import RULE_CHECKS, check_rule
from metarule.types import Parts


@dataclasses.dataclass(frozen=True)
class Decay:
    """A user's own rule in ten lines."""

    def init(self, key):
        return {"rate": jnp.array(0.1)}

    def delta(self, theta, memory, synapse):
        return theta["rate"] * (synapse.pre - synapse.weight), memory


class Sound(Lifted, frozen=True):
    """A sound rule, from which the broken ones differ."""

    rule: Decay = Decay()

    def memory(self, weight):
        return jnp.zeros_like(weight)

    def update(self, theta, memory, projection):
        return lift(self.delta)(theta, memory, projection)


@dataclasses.dataclass(frozen=True)
class NoDelta:
    def init(self, key):
        return jnp.zeros(())


class NotEqualToItsCopy(Sound, frozen=True, eq=False):
    pass


class TransposedChange(Sound, frozen=True):
    def update(self, theta, memory, projection):
        return lift(self.delta)(theta, memory, projection)[0].T, memory


class MemoryThatGrows(Sound, frozen=True):
    def delta(self, theta, memory, synapse):
        return theta["rate"], jnp.stack([memory, memory])


class MemoryOfTheNeuron(Sound, frozen=True):
    def memory(self, weight):
        return jnp.zeros(weight.shape[1:])


class ScaleOfAnotherShape(Sound, frozen=True):
    def scale(self):
        return {"rate": jnp.ones(2)}


class HalfPrecision(Sound, frozen=True):
    def update(self, theta, memory, projection):
        change, memory = lift(self.delta)(theta, memory, projection)
        return change.astype(jnp.float16), memory


class AlwaysSinglePrecision(Sound, frozen=True):
    def memory(self, weight):
        return jnp.zeros(weight.shape, jnp.float32)


class AnotherMatrixForm(Sound, frozen=True):
    def update(self, theta, memory, projection):
        return theta["rate"] * (projection.pre[:, None] + projection.weight), memory


class MemoryInOneForm(Sound, frozen=True):
    def update(self, theta, memory, projection):
        return lift(self.delta)(theta, memory, projection)[0], memory + projection.weight


class CompetingWeights(Sound, frozen=True):
    def update(self, theta, memory, projection):
        change, memory = lift(self.delta)(theta, memory, projection)
        return change - jnp.mean(projection.weight, axis=0, keepdims=True), memory


class SharedMemory(Sound, frozen=True):
    def update(self, theta, memory, projection):
        change, memory = lift(self.delta)(theta, memory, projection)
        return change + jnp.roll(memory, 1, axis=1), memory + projection.weight


class SecretVariable(Sound, frozen=True):
    def update(self, theta, memory, projection):
        change, memory = lift(self.delta)(theta, memory, projection)
        return change + 0 * projection.post, memory


class NaNAtRest(Sound, frozen=True):
    def delta(self, theta, memory, synapse):
        return theta["rate"] * synapse.pre / jnp.abs(synapse.pre), memory


class InfiniteGradientAtRest(Sound, frozen=True):
    def delta(self, theta, memory, synapse):
        return theta["rate"] * jnp.sqrt(jnp.abs(synapse.post)), memory


class WrongGradient(Sound, frozen=True):
    def delta(self, theta, memory, synapse):
        return theta["rate"] * jax.lax.stop_gradient(synapse.pre) * synapse.weight, memory


class MemoryOfAnotherKind(Sound, frozen=True):
    """The second step has a memory of another type than the first, and is compiled again."""

    def memory(self, weight):
        return jnp.broadcast_to(jnp.asarray(0.0), weight.shape)

    def delta(self, theta, memory, synapse):
        return theta["rate"] * memory, memory + synapse.weight


class PartsWithoutTheFactor(Sound, frozen=True):
    factored = True

    def parts(self, theta, projection):
        left, right = theta["rate"] * projection.pre[None], jnp.ones_like(projection.post)[None]
        return Parts(left, right, jnp.zeros_like(projection.pre))


class PartsThatMeet(Sound, frozen=True):
    """Factors of pre depend on post."""

    factored = True

    def delta(self, theta, memory, synapse):
        return theta["rate"] * (synapse.pre + synapse.post), memory

    def parts(self, theta, projection):
        shift = projection.post[0]
        left = jnp.stack([projection.pre - shift, jnp.ones_like(projection.pre)])
        right = theta["rate"] * jnp.stack([jnp.ones_like(projection.post), projection.post + shift])
        return Parts(left, right, jnp.zeros_like(projection.pre))


class NamesWithColons(Sound, frozen=True):
    def describe(self, theta):
        return {"rate: of decay": theta["rate"]}


class ArrayWithOneName(Sound, frozen=True):
    def describe(self, theta):
        return {"rate": jnp.stack([theta["rate"]])}


class LongEquation(Sound, frozen=True):
    def equation(self, theta):
        return "Δw = pre\n− weight"


BROKEN = {
    NoDelta: "protocol",
    NotEqualToItsCopy: "protocol",
    TransposedChange: "shapes",
    MemoryThatGrows: "shapes",
    MemoryOfTheNeuron: "shapes",
    ScaleOfAnotherShape: "shapes",
    HalfPrecision: "dtypes",
    AlwaysSinglePrecision: "dtypes",
    AnotherMatrixForm: "matrix form",
    MemoryInOneForm: "matrix form",
    PartsWithoutTheFactor: "parts",
    PartsThatMeet: "parts",
    CompetingWeights: "locality",
    SharedMemory: "locality",
    SecretVariable: "variables",
    NaNAtRest: "finite at rest",
    InfiniteGradientAtRest: "finite at rest",
    WrongGradient: "gradients",
    MemoryOfAnotherKind: "one trace",
    NamesWithColons: "names",
    ArrayWithOneName: "names",
    LongEquation: "names",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_rule_fails_the_check_that_it_breaks(broken):
    with pytest.raises(AssertionError, match=f"{broken.__name__} fails '{BROKEN[broken]}'"):
        check_rule(broken(), checks=(BROKEN[broken],))


def test_every_check_catches_something():
    assert set(BROKEN.values()) == set(RULE_CHECKS)


def test_the_whole_battery_names_rule_and_check():
    with pytest.raises(AssertionError, match="AnotherMatrixForm fails 'matrix form'"):
        check_rule(AnotherMatrixForm())
    with pytest.raises(AssertionError, match="NoDelta fails 'protocol': NoDelta has no method 'delta'"):
        check_rule(NoDelta())


@pytest.mark.parametrize(
    "rule", [Sound(), Decay(), Lifted(Decay()), Polynomial(terms=("seven",))], ids=["sound", "own", "lifted", "seven"]
)
def test_sound_rules_pass(rule):
    check_rule(rule, seed=1)
