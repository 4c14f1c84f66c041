import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.config.toml import ConfigError, decode
from metarule.rules import MLP
from metarule.types import Synapse

SYNAPSE = Synapse(*(jnp.array(value) for value in (0.5, -1.0, 0.3, 2.0, -0.7)))


def parameter_count(rule):
    return sum(leaf.size for leaf in jax.tree.leaves(rule.init(jax.random.key(0))))


def test_one_hidden_neuron_equals_the_formula():
    rule = MLP(inputs=("pre", "weight"), hidden=(1,), output_scale=0.2)
    theta = {
        "inputs": {"pre": jnp.array([2.0]), "weight": jnp.array([-1.0])},
        "layers": ({"bias": jnp.array([0.5]), "weight": jnp.array([[3.0]])},),
    }
    change, memory = rule.delta(theta, (), SYNAPSE)
    assert memory == ()
    assert change == pytest.approx(0.2 * 3 * np.tanh(0.5 + 2 * 0.5 - 2.0), rel=1e-5)


def test_theta_has_a_weight_for_each_input_and_a_bias_for_each_hidden_neuron():
    assert parameter_count(MLP()) == 8 * (4 + 1 + 1)
    assert parameter_count(MLP(inputs=("pre",), hidden=(5, 3))) == 5 * (1 + 1 + 3) + 3 * (1 + 1)


def test_without_spread_the_initial_rule_is_zero():
    rule = MLP(initial_spread=0.0)
    theta = rule.init(jax.random.key(0))
    assert rule.delta(theta, (), SYNAPSE)[0] == 0
    assert any(jax.tree.leaves(jax.tree.map(jnp.any, theta["inputs"])))


def test_initial_weights_have_their_spread():
    theta = jax.vmap(MLP(hidden=(16,), initial_spread=0.5).init)(jax.random.split(jax.random.key(0), 500))
    assert np.std(theta["inputs"]["pre"]) == pytest.approx(0.5, rel=0.05)  # of four inputs
    assert np.std(theta["layers"][0]["weight"]) == pytest.approx(0.5 / 4, rel=0.05)
    assert not np.any(theta["layers"][0]["bias"])


def test_equation_and_names():
    rule = MLP(inputs=("pre", "modulator"), hidden=(2, 1), activation="relu")
    theta = rule.init(jax.random.key(0))
    assert rule.equation(theta) == "Δw = 0.1·mlp(pre, modulator; 2 relu 1 relu)"
    assert list(rule.describe(theta)) == [
        "inputs.modulator[0]",
        "inputs.modulator[1]",
        "inputs.pre[0]",
        "inputs.pre[1]",
        "layers.0.bias[0]",
        "layers.0.bias[1]",
        "layers.0.weight[0,0]",
        "layers.0.weight[1,0]",
        "layers.1.bias[0]",
        "layers.1.weight[0,0]",
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inputs": ["pre", "prost"]}, "'prost' is not a variable; allowed: pre, post"),
        ({"inputs": ["pre", "pre"]}, "'pre' is given twice"),
        ({"inputs": []}, "inputs"),
        ({"hidden": []}, "hidden"),
        ({"hidden": [0]}, "hidden"),
        ({"activation": "step"}, "allowed: relu, sigmoid, softplus, tanh"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_bad_perceptrons_are_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        decode(table, MLP)
