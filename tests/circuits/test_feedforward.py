import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, InnerLoop, Lifetime, final_metrics, unroll
from metarule.activations import ACTIVATIONS, derivative
from metarule.circuits import ConditioningCircuit, Feedforward
from metarule.circuits.base import target_dependent
from metarule.circuits.parts import neuromodulator
from metarule.rules import Polynomial
from metarule.tasks.losses import binary_cross_entropy, cross_entropy
from metarule.types import Stimulus

KEY = jax.random.key(0)
LOSSES = {
    "sigmoid": binary_cross_entropy,
    "softmax": cross_entropy,
    "identity": lambda output, target: 0.5 * jnp.sum((target - output) ** 2),
}
TARGETS = {"sigmoid": [1.0, 0.0, 1.0], "softmax": [0.0, 1.0, 0.0], "identity": [0.3, -1.2, 2.0]}


@partial(jax.jit, static_argnums=(0, 1, 2))
def respond(circuit, key=0, target="sigmoid"):
    weights, wiring, activity = circuit.init(jax.random.key(key), 4, 3)
    stimulus = Stimulus(jax.random.normal(jax.random.key(9), (4,)), jnp.array(TARGETS[target]))
    return weights, wiring, stimulus, circuit.step(weights, wiring, activity, stimulus)


@jax.jit
def changes(projections):
    """ΔW of the delta rule with rate 1."""
    rule = Polynomial(terms=("delta",))
    return [rule.update(jnp.ones(1), (), projection)[0] for projection in projections]


@pytest.mark.parametrize("output", LOSSES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 5)])
def test_delta_rule_over_the_transpose_with_derivative_is_backprop(output, bias, hidden, float64):
    circuit = Feedforward(hidden=hidden, output=output, bias=bias, feedback="transpose", derivative=True)
    weights, wiring, stimulus, (_, _, projections, *_) = respond(circuit, target=output)
    loss = lambda weights: LOSSES[output](circuit.step(weights, wiring, (), stimulus).output, stimulus.target)
    for change, gradient in zip(changes(projections), jax.jit(jax.grad(loss))(weights), strict=True):
        np.testing.assert_allclose(change, -gradient, rtol=1e-6, atol=1e-9)
        assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "softplus", "identity"])
def test_derivative_equals_finite_differences(activation, float64):
    potential = jnp.array([-1.3, -0.2, 0.4, 2.0])
    f, step = ACTIVATIONS[activation], 1e-6
    numeric = (f(potential + step) - f(potential - step)) / (2 * step)
    np.testing.assert_allclose(derivative(f, potential), numeric, atol=1e-8)


def test_output_modulator_is_target_minus_output():
    _, _, stimulus, (_, output, projections, *_) = respond(Feedforward())
    np.testing.assert_array_equal(projections[-1].modulator, stimulus.target - output)


def test_random_feedback_is_fixed_and_not_the_transpose():
    weights, wiring, _, (_, _, projections, *_) = respond(Feedforward(hidden=(6,), feedback="random"))
    np.testing.assert_allclose(projections[0].modulator, projections[1].modulator @ wiring[0], rtol=1e-5)
    assert wiring[0].shape == (3, 6)
    assert not np.allclose(wiring[0], weights[1][:-1].T)


@pytest.mark.parametrize("feedback", ["transpose", "random", "zero"])
def test_a_network_without_hidden_layers_has_no_feedback(feedback):
    weights, wiring, _, (_, output, projections, *_) = respond(Feedforward(hidden=(), feedback=feedback))
    assert (len(weights), wiring, output.shape, len(projections)) == (1, (), (3,), 1)


def test_zero_feedback_makes_hidden_modulators_zero():
    *_, (_, _, projections, *_) = respond(Feedforward(hidden=(6, 5), feedback="zero"))
    assert not projections[0].modulator.any()
    assert not projections[1].modulator.any()
    assert projections[2].modulator.all()


def test_forward_weights_do_not_depend_on_the_feedback_path():
    draws = [Feedforward(feedback=path).init(jax.random.key(3), 4, 3)[0] for path in ("transpose", "random", "zero")]
    for other in draws[1:]:
        jax.tree.map(np.testing.assert_array_equal, draws[0], other)


def test_local_variables_are_those_of_the_network():
    weights, _, stimulus, (_, output, projections, *_) = respond(Feedforward(hidden=(6,)))
    first, second = projections
    np.testing.assert_array_equal(first.pre, [*stimulus.input, 1])
    np.testing.assert_allclose(first.potential, first.pre @ weights[0], rtol=1e-5)
    np.testing.assert_allclose(first.post, np.tanh(first.potential), rtol=1e-5)
    np.testing.assert_array_equal(second.pre[:-1], first.post)
    np.testing.assert_array_equal(second.post, output)


def test_initial_weights_have_the_stated_scale():
    weights, wiring, _ = Feedforward(hidden=(400,), weight_scale=2.0, feedback_scale=3.0).init(
        jax.random.key(0), 99, 400
    )
    assert np.std(weights[0]) == pytest.approx(2.0 / 100**0.5, rel=0.02)
    assert np.std(wiring[0]) == pytest.approx(3.0 / 400**0.5, rel=0.02)


def test_a_stimulus_of_the_wrong_size_is_refused():
    circuit = Feedforward()
    weights, wiring, activity = circuit.init(jax.random.key(0), 4, 3)
    with pytest.raises(AssertionError):
        circuit.step(weights, wiring, activity, Stimulus(jnp.ones(5), jnp.ones(3)))


def lifetime(circuit=None, rule=None, steps=400, **inner_loop):
    return Lifetime(
        rule=rule or Polynomial(terms=("delta", "weight")),
        circuit=circuit or Feedforward(hidden=(6, 5), feedback="learned"),
        tasks=Boolean(inputs=2, split_by="none"),
        inner_loop=InnerLoop(steps=steps, **inner_loop),
    )


def angle(forward, feedback):
    """Angle in degrees between W without its bias row and Bᵀ."""
    one, two = np.ravel(forward[:-1]).astype(np.float64), np.ravel(feedback.T).astype(np.float64)
    return np.degrees(np.arccos(np.clip(one @ two / np.linalg.norm(one) / np.linalg.norm(two), -1, 1)))


class TestLearnedFeedback:
    def test_weights_follow_the_forward_ones_and_start_as_random_feedback(self):
        learned, random = (Feedforward(hidden=(6, 5), feedback=path) for path in ("learned", "random"))
        weights, wiring, activity = learned.init(jax.random.key(0), 4, 3)
        forward, feedback, _ = random.init(jax.random.key(0), 4, 3)
        assert [weight.shape for weight in weights] == [(5, 6), (7, 5), (6, 3), (5, 6), (3, 5)]
        jax.tree.map(np.testing.assert_array_equal, weights, forward + feedback)
        assert (wiring, activity) == ((), ())
        assert learned.paths == ("forward", "forward", "forward", "feedback", "feedback")
        assert Feedforward(hidden=(), feedback="learned").paths == ("forward",)

    @pytest.mark.parametrize("slope", [True, False])
    def test_modulators_equal_those_of_random_feedback(self, slope):
        circuits = [Feedforward(hidden=(6, 5), feedback=path, derivative=slope) for path in ("learned", "random")]
        (*_, (_, one, learned, *_)), (*_, (_, two, random, *_)) = (respond(circuit) for circuit in circuits)
        np.testing.assert_array_equal(one, two)
        jax.tree.map(np.testing.assert_array_equal, learned[:3], random)

    @pytest.mark.parametrize("slope", [True, False])
    def test_local_variables(self, slope):
        weights, _, _, (_, _, projections, *_) = respond(
            Feedforward(hidden=(6, 5), feedback="learned", derivative=slope)
        )
        for layer, back in enumerate(projections[3:]):
            np.testing.assert_array_equal(back.pre, projections[layer + 1].modulator)
            np.testing.assert_array_equal(back.post, projections[layer].modulator)
            np.testing.assert_array_equal(back.modulator, projections[layer].post)
            np.testing.assert_array_equal(back.weight, weights[3 + layer])
            np.testing.assert_array_equal(back.neuromodulator, projections[0].neuromodulator)
            np.testing.assert_allclose(back.potential, back.pre @ weights[3 + layer], rtol=1e-5)
            factor = 1 - projections[layer].post ** 2 if slope else 1.0
            np.testing.assert_allclose(back.post, back.potential * factor, rtol=1e-5, atol=1e-7)

    def test_the_delta_rule_changes_feedback_and_forward_weights_equally(self):
        *_, (_, _, projections, *_) = respond(Feedforward(hidden=(6, 5), feedback="learned"))
        changed = changes(projections)
        for forward, feedback in zip(changed[1:3], changed[3:], strict=True):
            np.testing.assert_allclose(feedback, forward[:-1].T, rtol=1e-6)
            assert np.abs(feedback).max() > 1e-3

    @pytest.mark.parametrize("hidden", [(8,), (6, 5)])
    def test_weight_decay_makes_feedback_the_transpose(self, hidden):
        """Kolen & Pollack 1994: equal changes, and a difference that decays as (1 − decay)ᵗ.

        The bound is wide, because this holds only if no weight is clipped.
        """
        circuit = Feedforward(hidden=hidden, feedback="learned", derivative=True)
        learner = lifetime(circuit, steps=3000, weight_bound=4.0)

        @jax.jit
        def run():
            xor = learner.tasks.sample(KEY, learner.tasks.split(0).train, 6)._replace(
                table=jnp.array([0.0, 1.0, 1.0, 0.0])
            )
            theta = jnp.array([0.3, -0.003])
            context, initial = learner.init(theta, jax.random.key(4), xor)
            final, _ = unroll(learner, theta, context, initial, jnp.arange(3000))
            return learner.evaluate(theta, context, final)[1], initial, final

        metrics, initial, final = run()
        assert metrics["solved"] == 1
        for layer in range(1, len(hidden) + 1):
            pairs = [(state.weights[layer], state.weights[layer + len(hidden)]) for state in (initial, final)]
            before, after = (angle(*pair) for pair in pairs)
            assert before > 45
            assert after < 0.1
            distance = [np.linalg.norm(forward[:-1].T - feedback) for forward, feedback in pairs]
            np.testing.assert_allclose(distance[1], 0.997**3000 * distance[0], atol=1e-4)

    def test_weights_without_a_rule_do_not_change(self):
        learner = lifetime(theta="per_path")
        theta = jnp.array([[0.3, 0.0], [0.0, 0.0]])
        assert learner.init_theta(KEY).shape == theta.shape
        assert learner.equation(theta) == "Δw[forward] = 0.3·pre·modulator\nΔw[feedback] = 0"
        random = lifetime(Feedforward(hidden=(6, 5), feedback="random"))

        @jax.jit
        def lifetimes():
            context, initial = learner.init(theta, KEY, learner.tasks.sample(KEY, learner.tasks.split(0).train, 6))
            final, _ = unroll(learner, theta, context, initial, jnp.arange(20))
            other, _ = unroll(random, theta[0], *random.init(theta[0], KEY, context.task), jnp.arange(20))
            return initial, final, other

        initial, final, other = lifetimes()
        changed = [not np.array_equal(*pair) for pair in zip(initial.weights, final.weights, strict=True)]
        assert changed == [True, True, True, False, False]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), final.weights[:3], other.weights)

    @pytest.mark.parametrize("theta", ["shared", "per_path"])
    def test_learn_boolean_functions(self, theta):
        rule = Polynomial(terms=("delta", "weight"), initial={"delta": 0.3, "weight": -0.001})
        learner = lifetime(Feedforward(hidden=(8,), feedback="learned", derivative=True), rule, theta=theta)
        pool = learner.tasks.split(0).train
        assert final_metrics(learner, learner.init_theta(KEY), pool, jax.random.key(1), 128)["solved"].mean() > 0.95


@pytest.mark.parametrize(
    ("circuit", "names"),
    [
        (Feedforward(hidden=(2,)), ("modulator", "neuromodulator")),
        (Feedforward(hidden=(2,), feedback="learned"), ("pre", "post", "potential", "modulator", "neuromodulator")),
        (ConditioningCircuit(), ()),
    ],
)
def test_local_variables_that_depend_on_the_target_are_found(circuit, names):
    assert target_dependent(circuit, 3, 1) == names


@pytest.mark.parametrize("fixed", [(0, 0), (3,), (-1,), (0, 1, 2)])
def test_fixed_projections_that_do_not_exist_or_leave_none_plastic_are_refused(fixed):
    message = f"fixed = {list(fixed)}; allowed: distinct numbers from 0 to 2, not all of them"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Feedforward(hidden=(4,), feedback="learned", fixed=fixed)


def test_the_neuromodulator_is_the_reward_or_the_negative_mean_error():
    error = jnp.array([1.0, -3.0])
    stimulus = Stimulus(jnp.zeros(1), jnp.zeros(2))
    assert neuromodulator(stimulus, error) == -5
    assert neuromodulator(stimulus._replace(reward=jnp.asarray(0.25)), error) == 0.25
