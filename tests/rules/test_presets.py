"""Classic rules have the properties stated in their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, unroll
from metarule.rules import RULES, Polynomial
from metarule.types import Synapse


def learn(rule, rate, weight, stimuli, targets=None):
    """Weights [time, inputs] of one linear neuron under a rule by name; its modulator is the target."""
    polynomial = Polynomial(terms=(rule,), initial={rule: rate})
    theta = polynomial.init(jax.random.key(0))
    targets = jnp.zeros(len(stimuli)) if targets is None else targets

    def step(state, stimulus):
        weight, memory = state
        pre, target = stimulus
        post = pre @ weight
        change, memory = polynomial.update(theta, memory, Synapse(pre, post, post, weight, target[None]))
        return (weight + change, memory), weight[:, 0] + change[:, 0]

    weight = jnp.asarray(weight)[:, None]
    return np.asarray(jax.lax.scan(step, (weight, polynomial.memory(weight)), (stimuli, targets))[1])


def correlated(count=5000):
    mixing = jnp.array([[2.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.0, 0.3, 0.5]])
    return jax.random.normal(jax.random.key(0), (count, 3)) @ mixing


def test_every_rule_by_name_is_valid():
    for name in RULES:
        assert Polynomial(terms=(name,)).names == (name,)


def test_oja_learns_the_first_principal_component_with_norm_one():
    weight = learn("oja", 0.01, 0.1 * jnp.ones(3), correlated())[-1000:].mean(axis=0)
    principal = np.linalg.eigh(np.cov(correlated().T))[1][:, -1]
    assert np.linalg.norm(weight) == pytest.approx(1, abs=0.03)
    assert abs(principal @ weight) / np.linalg.norm(weight) == pytest.approx(1, abs=0.01)


def test_hebb_grows_without_bound():
    """For one stimulus x, the projection of the weight on x grows by the factor 1 + η·|x|² in a step."""
    stimuli = jnp.tile(jnp.array([1.0, -2.0]), (50, 1))
    projection = learn("hebb", 0.05, jnp.array([0.1, 0.1]), stimuli) @ [1.0, -2.0]
    np.testing.assert_allclose(projection, -0.1 * (1 + 0.05 * 5) ** np.arange(1, 51), rtol=1e-4)


def test_hebb_stays_within_the_weight_bound():
    rule = Polynomial(terms=("hebb",), initial={"hebb": 1.0})
    lifetime = Lifetime(
        rule=rule,
        circuit=Feedforward(hidden=(), output="sigmoid"),
        tasks=Boolean(inputs=2),
        inner_loop=InnerLoop(steps=50, weight_bound=1.5),
    )
    task = lifetime.tasks.sample(jax.random.key(0), lifetime.tasks.split(0).train, 0)
    theta = rule.init(jax.random.key(0))
    context, state = lifetime.init(theta, jax.random.key(1), task)
    state, _ = unroll(lifetime, theta, context, state, jnp.arange(50))
    assert np.abs(state.weights[0]).max() == 1.5


def test_bcm_becomes_selective():
    """Of two equally frequent stimuli, one evokes a final response of 2, the other of 0."""
    stimuli = jnp.array([[1.0, 0.3], [0.3, 1.0]])
    order = jax.random.bernoulli(jax.random.key(0), 0.5, (20_000,)).astype(int)
    weight = learn("bcm", 0.003, jnp.array([0.5, 0.4]), stimuli[order])[-2000:].mean(axis=0)
    np.testing.assert_allclose(sorted(stimuli @ weight), [0, 2], atol=0.2)


def test_covariance_ignores_the_means():
    """Δw is 0 unless pre and post vary together."""
    stimuli = 5 + jnp.array([[1.0], [-1.0]])[jnp.arange(400) % 2]
    polynomial = Polynomial(terms=("covariance",))
    theta = {"coefficients": jnp.ones(1), "logit_decay": jnp.array([10.0, 10.0])}
    memory = {"mean_pre": jnp.full((1, 2), 5.0), "mean_post": jnp.array([[3.0, 3.0]])}
    changes = []
    for pre in stimuli[:2]:
        post = 3 + (pre - 5) * jnp.array([0.5, 0.0])  # one neuron follows the stimulus, one does not
        changes.append(polynomial.update(theta, memory, Synapse(pre, post, post, jnp.zeros((1, 2)), post))[0])
    np.testing.assert_allclose(np.mean(changes, axis=0), [[0.5, 0.0]], atol=1e-3)


def test_rescorla_wagner_blocks():
    """A second stimulus is not learned if the first predicts the reinforcement."""
    first, both = jnp.tile(jnp.array([1.0, 0.0]), (200, 1)), jnp.ones((200, 2))
    weights = learn("rescorla_wagner", 0.1, jnp.zeros(2), jnp.concatenate([first, both]), jnp.full(400, 0.8))
    np.testing.assert_allclose(weights[-1], [0.8, 0.0], atol=1e-3)
    control = learn("rescorla_wagner", 0.1, jnp.zeros(2), both, jnp.full(200, 0.8))
    np.testing.assert_allclose(control[-1], [0.4, 0.4], atol=1e-3)


def test_anti_hebb_silences_a_neuron():
    responses = (correlated(2000) * learn("anti_hebb", 0.01, jnp.ones(3), correlated(2000))).sum(axis=1)
    assert np.abs(responses[-100:]).mean() < 0.05 * np.abs(responses[:100]).mean()


def test_delta_with_the_error_as_modulator_learns_least_squares():
    stimuli, solution = correlated(4000), jnp.array([0.5, -1.0, 2.0])
    polynomial, weight = Polynomial(terms=("delta",)), jnp.zeros((3, 1))

    def step(weight, pre):
        post = pre @ weight
        error = (pre @ solution)[None] - post
        return weight + polynomial.update(jnp.array([0.02]), (), Synapse(pre, post, post, weight, error))[0], None

    weight, _ = jax.lax.scan(step, weight, stimuli)
    np.testing.assert_allclose(weight[:, 0], solution, atol=0.01)
