"""Sampled choices and noise, in every circuit that has them."""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import Bandit, ExcitatoryInhibitory, Feedforward, InnerLoop, Lifetime, Polynomial, Recurrent
from metarule.circuits.base import is_sampled, is_stochastic
from metarule.circuits.sampling import choose, respond
from metarule.kernels import kernels
from metarule.lifetime.unroll import is_compiled
from metarule.types import Stimulus

KEY, DRAWS = jax.random.key(0), 20_000
CIRCUITS = {
    "feedforward": Feedforward(hidden=(5, 4), output="choice"),
    "recurrent": Recurrent(neurons=5, output="choice"),
    "excitatory_inhibitory": ExcitatoryInhibitory(excitatory=4, inhibitory=2, output="choice"),
}
EACH = pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)
POTENTIALS = jnp.array([0.3, -1.0, 1.2, 0.0])


@partial(jax.jit, static_argnums=0)
def step(circuit, key):
    """Step from rest with a key or None, and the weights."""
    weights, wiring, state = circuit.init(KEY, 3, 4)
    stimulus = Stimulus(jnp.array([1.0, -1.0, 0.5]), jnp.array([0.0, 1.0, 0.0, 0.0]), key=key)
    return circuit.step(weights, wiring, state, stimulus)


@jax.jit
def choices(probabilities):
    return jax.vmap(partial(choose, probabilities))(jax.random.split(KEY, DRAWS))


@pytest.mark.parametrize("probabilities", [[0.2, 0.05, 0.65, 0.1], [0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]], ids=str)
def test_neurons_fire_with_their_probabilities(probabilities):
    probabilities = jnp.array(probabilities)
    drawn = np.asarray(choices(probabilities))
    error = np.sqrt(probabilities * (1 - probabilities) / DRAWS)
    assert np.all(np.abs(drawn.mean(0) - probabilities) <= 5 * error)


@pytest.mark.parametrize(
    "probabilities",
    [[0.1] * 10, [1 / 3, 1e-9, 2 / 3], [1e-38, 1e-38], [np.nan, 0.5], [0.0, 0.0, 1e-30], [1.0]],
    ids=str,
)
def test_exactly_one_neuron_fires(probabilities):
    drawn = np.asarray(choices(jnp.array(probabilities)))
    assert set(np.unique(drawn)) <= {0, 1}
    np.testing.assert_array_equal(drawn.sum(1), 1)


def test_gradient_of_the_log_probability_is_choice_minus_probability(float64):
    def log_probability(potentials):
        response = respond("choice", potentials, KEY)
        return response.log_probability, response

    potentials = jnp.asarray(POTENTIALS, float)
    gradient, response = jax.grad(log_probability, has_aux=True)(potentials)
    np.testing.assert_allclose(gradient, response.output - jax.nn.softmax(potentials), atol=1e-12)
    np.testing.assert_allclose(response.log_probability, np.log(response.output @ response.mean), atol=1e-12)


def test_a_choice_has_no_derivative():
    total = lambda potentials: respond("choice", potentials, KEY).output @ jnp.arange(4.0)
    np.testing.assert_array_equal(jax.grad(total)(POTENTIALS), 0)


@EACH
def test_output_and_post_are_the_choice_and_the_error_is_that_of_the_probabilities(circuit):
    mean, drawn = step(circuit, None), step(circuit, KEY)
    np.testing.assert_array_equal(drawn.output, drawn.synapses[-1].post)
    np.testing.assert_array_equal(drawn.output, drawn.activity[-1])
    assert sorted(np.asarray(drawn.output)) == [0, 0, 0, 1]
    np.testing.assert_allclose(drawn.log_probability, np.log(drawn.output @ mean.output), rtol=1e-5)
    for one, other in zip(drawn.synapses, mean.synapses, strict=True):
        np.testing.assert_allclose(one.modulator, other.modulator, atol=1e-6)
        np.testing.assert_allclose(one.potential, other.potential, atol=1e-6)
    np.testing.assert_allclose(mean.synapses[-1].modulator, jnp.array([0.0, 1.0, 0.0, 0.0]) - mean.output, atol=1e-6)


@EACH
def test_without_a_key_the_response_is_that_of_softmax(circuit):
    result = step(replace(circuit, noise=0.5), None)
    assert result.log_probability is None
    jax.tree.map(np.testing.assert_array_equal, result, step(replace(circuit, output="softmax"), None))


@EACH
def test_a_key_changes_nothing_where_nothing_is_random(circuit):
    calm = replace(circuit, output="sigmoid")
    assert not is_stochastic(calm)
    jax.tree.map(np.testing.assert_array_equal, step(calm, KEY), step(calm, None))


@EACH
def test_noise_reaches_potentials_and_activities_of_hidden_neurons(circuit):
    noisy = replace(circuit, output="identity", noise=0.2)
    assert is_stochastic(noisy)
    assert not is_sampled(noisy, 3, 4)
    calm = step(noisy, None)
    many = jax.vmap(lambda key: step(noisy, key))(jax.random.split(KEY, 500))
    first = 0 if isinstance(circuit, Feedforward) else 1
    for number, synapse in enumerate(many.synapses[:-1]):
        noise = np.asarray(synapse.potential) - np.asarray(calm.synapses[number].potential)
        if number <= first or not isinstance(circuit, Feedforward):
            assert noise.mean() == pytest.approx(0, abs=0.03)
            assert noise.std() == pytest.approx(0.2, rel=0.1)
        f = np.tanh if not isinstance(circuit, ExcitatoryInhibitory) else jax.nn.sigmoid
        np.testing.assert_allclose(synapse.post, f(synapse.potential), atol=1e-6)
    independent = np.corrcoef(np.asarray(many.synapses[0].potential), rowvar=False) - np.eye(len(calm.synapses[0].post))
    assert np.abs(independent).max() < 0.2


@EACH
def test_a_closed_loop_samples_and_is_compiled(circuit):
    learner = Lifetime(
        rule=Polynomial(terms=("pre*modulator*neuromodulator", "weight")),
        circuit=replace(circuit, noise=0.1),
        tasks=Bandit(arms=3),
        inner_loop=InnerLoop(steps=20),
    )
    assert learner.samples
    theta = learner.init_theta(KEY)
    task = learner.tasks.sample(KEY, learner.tasks.split(0).train, 0)
    with kernels("on"):
        assert is_compiled(learner, theta, *learner.init(theta, KEY, task))


def test_a_task_that_needs_a_choice_refuses_other_outputs():
    with pytest.raises(ValueError, match=r"circuit.output = 'softmax': the loss of these tasks needs 'choice'"):
        Lifetime(rule=Polynomial(terms=("delta",)), circuit=Feedforward(output="softmax"), tasks=Bandit(arms=3))


def test_an_unknown_activation_of_own_tasks_is_named():
    class Unknown(Bandit, frozen=True, kw_only=True):
        activation: ClassVar[str] = "sampled"

    allowed = "allowed here: sigmoid, softmax, tanh, identity, choice"
    with pytest.raises(ValueError, match=f"tasks: their activation is 'sampled'; {allowed}"):
        Lifetime(rule=Polynomial(terms=("delta",)), circuit=Feedforward(), tasks=Unknown())
