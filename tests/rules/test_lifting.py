import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.rules import Lifted
from metarule.rules.lifting import complete, local_variables
from metarule.types import Synapse


@dataclasses.dataclass(frozen=True)
class Decay:
    def init(self, key):
        return {"rate": jnp.array(0.5), "gains": jnp.array([1.0, 2.0])}

    def delta(self, theta, memory, synapse):
        return theta["rate"] * (theta["gains"][0] * synapse.pre - theta["gains"][1] * synapse.weight), memory


@dataclasses.dataclass(frozen=True)
class Complete(Decay):
    def scale(self):
        return {"rate": jnp.array(0.1), "gains": jnp.array([3.0, 3.0])}

    def memory(self, weight):
        return jnp.ones_like(weight)

    def update(self, theta, memory, projection):
        return 0 * projection.weight, memory

    def describe(self, theta):
        return {"rate": theta["rate"]}

    def equation(self, theta):
        return "Δw = something"


def test_a_class_with_init_and_delta_is_completed():
    rule = Lifted(Decay())
    theta = rule.init(jax.random.key(0))
    assert local_variables(Decay()) == local_variables(rule) == ("pre", "weight")
    assert rule.memory(jnp.ones((2, 3))) == ()
    np.testing.assert_array_equal(rule.scale()["gains"], [1, 1])
    assert {name: float(value) for name, value in rule.describe(theta).items()} == {
        "rate": 0.5,
        "gains[0]": 1.0,
        "gains[1]": 2.0,
    }
    assert rule.equation(theta) == "Δw = Decay(gains[0] = 1, gains[1] = 2, rate = 0.5)"
    assert rule == Lifted(Decay())
    assert hash(rule) == hash(Lifted(Decay()))


def test_the_default_matrix_form_is_delta_at_each_synapse():
    rule, pre, weight = Lifted(Decay()), jnp.array([1.0, 2.0]), jnp.ones((2, 3))
    projection = Synapse(pre, jnp.zeros(3), jnp.zeros(3), weight, jnp.zeros(3))
    change, memory = rule.update(rule.init(jax.random.key(0)), (), projection)
    assert memory == ()
    np.testing.assert_allclose(change, [[-0.5] * 3, [0.0] * 3])


def test_abilities_of_the_class_are_used():
    rule = Lifted(Complete())
    theta = rule.init(jax.random.key(0))
    assert rule.memory(jnp.zeros(2)).tolist() == [1, 1]
    assert rule.scale()["gains"].tolist() == [3, 3]
    assert list(rule.describe(theta)) == ["rate"]
    assert rule.equation(theta) == "Δw = something"
    projection = Synapse(jnp.ones(2), jnp.ones(3), jnp.ones(3), jnp.ones((2, 3)), jnp.ones(3))
    assert not np.any(rule.update(theta, rule.memory(projection.weight), projection)[0])


@dataclasses.dataclass
class Mutable:
    def init(self, key):
        return jnp.zeros(())

    def delta(self, theta, memory, synapse):
        return theta, memory


class NoDelta:
    def init(self, key):
        return jnp.zeros(())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Decay, "Decay is a class; give an instance, as in Decay\\(\\)"),
        (NoDelta(), "NoDelta has no method 'delta'"),
        (Mutable(), "Mutable is not hashable; make it a frozen dataclass or Struct"),
    ],
)
def test_an_object_that_is_not_a_rule_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        Lifted(given)


def test_a_complete_rule_is_its_own_completion():
    assert complete(Complete()) == Complete()
    assert complete(Decay()) == Lifted(Decay())
