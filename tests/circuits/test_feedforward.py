import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule.circuits import Feedforward
from metarule.circuits.activations import ACTIVATIONS, derivative
from metarule.rules import Polynomial
from metarule.tasks.losses import binary_cross_entropy, cross_entropy
from metarule.types import Stimulus

LOSSES = {
    "sigmoid": binary_cross_entropy,
    "softmax": cross_entropy,
    "identity": lambda output, target: 0.5 * jnp.sum((target - output) ** 2),
}
TARGETS = {"sigmoid": [1.0, 0.0, 1.0], "softmax": [0.0, 1.0, 0.0], "identity": [0.3, -1.2, 2.0]}


def present(circuit, key=0, target="sigmoid"):
    weights, wiring, activity = circuit.init(jax.random.key(key), 4, 3)
    stimulus = Stimulus(jax.random.normal(jax.random.key(9), (4,)), jnp.array(TARGETS[target]))
    return weights, wiring, stimulus, circuit.step(weights, wiring, activity, stimulus)


@pytest.mark.parametrize("output", LOSSES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 5)])
def test_delta_rule_over_the_transpose_with_derivative_is_backprop(output, bias, hidden, float64):
    circuit = Feedforward(hidden=hidden, output=output, bias=bias, backward="transpose", derivative=True)
    weights, wiring, stimulus, (_, _, projections) = present(circuit, target=output)
    rule = Polynomial(terms=("delta",))
    changes = tuple(rule.update(jnp.ones(1), (), projection)[0] for projection in projections)
    loss = lambda weights: LOSSES[output](circuit.step(weights, wiring, (), stimulus)[1], stimulus.target)
    for change, gradient in zip(changes, jax.grad(loss)(weights), strict=True):
        np.testing.assert_allclose(change, -gradient, rtol=1e-6, atol=1e-9)
        assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "softplus", "identity"])
def test_derivative_equals_finite_differences(activation, float64):
    potential = jnp.array([-1.3, -0.2, 0.4, 2.0])
    f, step = ACTIVATIONS[activation], 1e-6
    numeric = (f(potential + step) - f(potential - step)) / (2 * step)
    np.testing.assert_allclose(derivative(f, potential), numeric, atol=1e-8)


def test_output_modulator_is_target_minus_output():
    _, _, stimulus, (_, output, projections) = present(Feedforward())
    np.testing.assert_array_equal(projections[-1].modulator, stimulus.target - output)


def test_random_path_is_drawn_once_and_is_not_the_transpose():
    weights, wiring, _, (_, _, projections) = present(Feedforward(hidden=(6,), backward="random"))
    np.testing.assert_allclose(projections[0].modulator, projections[1].modulator @ wiring[0], rtol=1e-5)
    assert wiring[0].shape == (3, 6)
    assert not np.allclose(wiring[0], weights[1][:-1].T)


@pytest.mark.parametrize("backward", ["transpose", "random", "zero"])
def test_no_hidden_layer_needs_no_path(backward):
    weights, wiring, _, (_, output, projections) = present(Feedforward(hidden=(), backward=backward))
    assert (len(weights), wiring, output.shape, len(projections)) == (1, (), (3,), 1)


def test_zero_path_carries_nothing():
    *_, (_, _, projections) = present(Feedforward(hidden=(6, 5), backward="zero"))
    assert not projections[0].modulator.any()
    assert not projections[1].modulator.any()
    assert projections[2].modulator.all()


def test_forward_weights_do_not_depend_on_the_backward_path():
    draws = [Feedforward(backward=path).init(jax.random.key(3), 4, 3)[0] for path in ("transpose", "random", "zero")]
    for other in draws[1:]:
        jax.tree.map(np.testing.assert_array_equal, draws[0], other)


def test_synapses_see_what_the_network_computes():
    weights, _, stimulus, (_, output, projections) = present(Feedforward(hidden=(6,)))
    first, second = projections
    np.testing.assert_array_equal(first.pre, [*stimulus.input, 1])
    np.testing.assert_allclose(first.potential, first.pre @ weights[0], rtol=1e-5)
    np.testing.assert_allclose(first.post, np.tanh(first.potential), rtol=1e-5)
    np.testing.assert_array_equal(second.pre[:-1], first.post)
    np.testing.assert_array_equal(second.post, output)


def test_initial_weights_have_the_stated_scale():
    weights, wiring, _ = Feedforward(hidden=(400,), weight_scale=2.0, backward_scale=3.0).init(
        jax.random.key(0), 99, 400
    )
    assert np.std(weights[0]) == pytest.approx(2.0 / 100**0.5, rel=0.02)
    assert np.std(wiring[0]) == pytest.approx(3.0 / 400**0.5, rel=0.02)


def test_a_stimulus_that_does_not_fit_is_refused():
    circuit = Feedforward()
    weights, wiring, activity = circuit.init(jax.random.key(0), 4, 3)
    with pytest.raises(AssertionError):
        circuit.step(weights, wiring, activity, Stimulus(jnp.ones(5), jnp.ones(3)))
