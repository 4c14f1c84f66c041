from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from small import met

from metarule import (
    Boolean,
    Conditioning,
    ConditioningCircuit,
    Connection,
    Feedforward,
    InnerLoop,
    Lifetime,
    Polynomial,
    backprop,
    delta_rule,
    final_metrics,
)
from metarule.analysis.baselines import baselines, feedback_alignment, rescorla_wagner, sutton_barto, theta_at_rate
from metarule.config.toml import ConfigError, decode
from metarule.lifetime.unroll import step_at
from metarule.runs.experiment import Experiment
from metarule.types import Stimulus

KEY = jax.random.key(0)
LEARNER = Lifetime(
    rule=Polynomial(),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=80, theta="per_projection"),
)


def start(learner):
    return jax.jit(learner.init)(KEY, met(LEARNER.tasks, 1))


def test_baselines_share_tasks_and_initial_weights_with_the_learner():
    weights = [start(learner)[1].weights for learner in (LEARNER, delta_rule(LEARNER), backprop(LEARNER))]
    jax.tree.map(np.testing.assert_array_equal, weights[0], weights[1])
    jax.tree.map(np.testing.assert_array_equal, weights[0], weights[2])


def test_a_step_of_backprop_follows_the_gradient_of_the_loss():
    learner = backprop(LEARNER)
    context, state = start(learner)
    stimulus = LEARNER.tasks.stimulus(context.task, 0, KEY)
    loss = lambda weights: LEARNER.tasks.loss(learner.circuit.step(weights, (), (), stimulus).output, stimulus.target)
    after, _ = jax.jit(partial(step_at, learner))(jnp.array([0.1]), context, state, 0)
    gradients = jax.jit(jax.grad(loss))(state.weights)
    for before, gradient, weight in zip(state.weights, gradients, after.weights, strict=True):
        np.testing.assert_allclose(weight, before - 0.1 * gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("baseline", "path"),
    [(backprop, lambda wiring, forward: forward[1][:-1].T), (feedback_alignment, lambda wiring, forward: wiring[0])],
    ids=["backprop", "feedback alignment"],
)
@pytest.mark.parametrize("feedback", ["zero", "learned"])
def test_one_step_of_the_delta_rule_over_the_path_with_derivative(baseline, path, feedback):
    learner = baseline(replace(LEARNER, circuit=replace(LEARNER.circuit, feedback=feedback)))
    context, state = start(learner)
    after, _ = jax.jit(partial(step_at, learner))(jnp.array([0.1]), context, state, 0)

    forward = [np.asarray(weight) for weight in state.weights]
    stimulus = LEARNER.tasks.stimulus(context.task, 0, KEY)
    pre = np.append(stimulus.input, 1)
    hidden = np.tanh(pre @ forward[0])
    error = np.asarray(stimulus.target) - 1 / (1 + np.exp(-np.append(hidden, 1) @ forward[1]))
    modulator = (error @ np.asarray(path(context.wiring, forward))) * (1 - hidden**2)
    assert len(after.weights) == 2
    np.testing.assert_allclose(after.weights[0], forward[0] + 0.1 * np.outer(pre, modulator), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        after.weights[1], forward[1] + 0.1 * np.outer(np.append(hidden, 1), error), rtol=1e-5, atol=1e-6
    )
    assert np.abs(modulator).max() > 1e-3


def test_the_delta_rule_shares_one_theta_with_learned_feedback():
    learner = delta_rule(
        replace(
            LEARNER,
            circuit=replace(LEARNER.circuit, feedback="learned"),
            inner_loop=replace(LEARNER.inner_loop, theta="per_path"),
        )
    )
    assert learner.circuit.feedback == "learned"
    assert learner.init_theta(KEY).shape == (1,)
    context, state = start(learner)
    after, _ = jax.jit(partial(step_at, learner))(jnp.array([0.1]), context, state, 0)
    _, forward, feedback = (new - old for new, old in zip(after.weights, state.weights, strict=True))
    np.testing.assert_allclose(feedback, forward[:-1].T, atol=1e-6)
    assert np.abs(feedback).max() > 1e-3


CONDITIONING = Lifetime(
    rule=Polynomial(),
    circuit=ConditioningCircuit(trace_decay=0.5),
    tasks=Conditioning(),
    inner_loop=InnerLoop(steps=520),
)


@pytest.mark.parametrize(
    ("baseline", "change"),
    [
        (rescorla_wagner, lambda strength, us, before: us - strength),
        (sutton_barto, lambda strength, us, before: 0.5 * (strength + us - 0.5 * before)),
    ],
    ids=["rescorla_wagner", "sutton_barto"],
)
def test_classic_conditioning_rules_by_hand(baseline, change):
    """CS1 alone, then with the US: Δw of the second step, with traces that decay by half in a step."""
    learner = baseline(CONDITIONING)

    @jax.jit
    def second_change():
        weights, wiring, activity = learner.circuit.init(KEY, 3, 1)
        for us in (0.0, 1.0):
            stimulus = Stimulus(jnp.array([1.0, 0.0, us]), jnp.zeros(3))
            activity, _, (synapses,), _ = learner.circuit.step(weights, wiring, activity, stimulus)
        return weights, learner.rule.update(jnp.array([0.3]), (), synapses)[0]

    weights, delta_w = second_change()
    strength = float(weights[0][0, 0])
    np.testing.assert_allclose(delta_w[:, 0], [0.3 * change(strength, 1.0, strength), 0], rtol=1e-5)


def test_rescorla_wagner_needs_a_circuit_that_the_us_drives():
    assert list(baselines(CONDITIONING)) == ["rescorla_wagner", "sutton_barto"]
    weak = [Connection(pre="US", post="facilitatory", weight=0.5), *CONDITIONING.circuit.synapses[2:]]
    for synapses in (
        (CONDITIONING.circuit.synapses[0], *weak),
        (CONDITIONING.circuit.synapses[1], *CONDITIONING.circuit.synapses[2:]),
    ):
        other = replace(CONDITIONING, circuit=replace(CONDITIONING.circuit, synapses=synapses))
        assert list(baselines(other)) == ["sutton_barto"]


def test_every_baseline_of_a_feedforward_circuit_stays_finite():
    names = ("delta", "feedback_alignment", "backprop", "momentum", "adam", "hebb", "oja", "bcm", "covariance")
    learners = baselines(LEARNER, names)
    assert tuple(learners) == names
    for learner in learners.values():
        theta = theta_at_rate(learner, 0.1)
        scores = final_metrics(learner, theta, LEARNER.tasks.split(0).train, KEY, 8)
        assert np.isfinite(scores["accuracy"]).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [("rescorla_wagner", "needs a conditioning circuit"), ("sgd", "baseline 'sgd' does not exist")],
)
def test_a_baseline_that_does_not_fit_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        baselines(LEARNER, (name,))


def test_backprop_needs_a_feedforward_circuit():
    with pytest.raises(ValueError, match="feedforward|Feedforward"):
        backprop(CONDITIONING)


def test_an_experiment_names_the_baseline_that_does_not_fit():
    with pytest.raises(ConfigError, match="evaluation.baselines: 'sutton_barto' cannot be compared with here"):
        decode({"evaluation": {"baselines": ["sutton_barto"]}}, Experiment)
    with pytest.raises(ConfigError, match=r"evaluation.baselines.0 = 'sgd': allowed: adam, anti_hebb, "):
        decode({"evaluation": {"baselines": ["sgd"]}}, Experiment)
