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
    delta,
    final_metrics,
)
from metarule.analysis.baselines import at_rate, baselines, feedback_alignment, rescorla_wagner, sutton_barto
from metarule.config.toml import ConfigError, decode
from metarule.runs.experiment import Experiment
from metarule.types import Stimulus

KEY = jax.random.key(0)
LIFE = Lifetime(
    rule=Polynomial(),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=80, theta="per_projection"),
)


def born(learner):
    return jax.jit(learner.init)(KEY, met(LIFE.tasks, 1))


def test_baselines_share_tasks_and_initial_weights_with_the_learner():
    births = [born(learner)[1].weights for learner in (LIFE, delta(LIFE), backprop(LIFE))]
    jax.tree.map(np.testing.assert_array_equal, births[0], births[1])
    jax.tree.map(np.testing.assert_array_equal, births[0], births[2])


def test_backprop_steps_down_the_gradient_of_the_loss():
    learner = backprop(LIFE)
    context, state = born(learner)
    stimulus = LIFE.tasks.stimulus(context.task, 0, KEY)
    loss = lambda weights: LIFE.tasks.loss(learner.circuit.step(weights, (), (), stimulus).output, stimulus.target)
    after, _ = jax.jit(learner.step)(jnp.array([0.1]), context, state, 0)
    gradients = jax.jit(jax.grad(loss))(state.weights)
    for before, gradient, weight in zip(state.weights, gradients, after.weights, strict=True):
        np.testing.assert_allclose(weight, before - 0.1 * gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("baseline", "path"),
    [(backprop, lambda born, forward: forward[1][:-1].T), (feedback_alignment, lambda born, forward: born[0])],
    ids=["backprop", "feedback alignment"],
)
@pytest.mark.parametrize("feedback", ["zero", "learned"])
def test_one_step_of_the_delta_rule_over_the_path_with_derivative(baseline, path, feedback):
    learner = baseline(replace(LIFE, circuit=replace(LIFE.circuit, feedback=feedback)))
    context, state = born(learner)
    after, _ = jax.jit(learner.step)(jnp.array([0.1]), context, state, 0)

    forward = [np.asarray(weight) for weight in state.weights]
    stimulus = LIFE.tasks.stimulus(context.task, 0, KEY)
    pre = np.append(stimulus.input, 1)
    hidden = np.tanh(pre @ forward[0])
    error = np.asarray(stimulus.target) - 1 / (1 + np.exp(-np.append(hidden, 1) @ forward[1]))
    back = (error @ np.asarray(path(context.wiring, forward))) * (1 - hidden**2)
    assert len(after.weights) == 2
    np.testing.assert_allclose(after.weights[0], forward[0] + 0.1 * np.outer(pre, back), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        after.weights[1], forward[1] + 0.1 * np.outer(np.append(hidden, 1), error), rtol=1e-5, atol=1e-6
    )
    assert np.abs(back).max() > 1e-3


def test_the_delta_rule_keeps_a_learned_path_under_one_theta():
    learner = delta(
        replace(
            LIFE,
            circuit=replace(LIFE.circuit, feedback="learned"),
            inner_loop=replace(LIFE.inner_loop, theta="per_path"),
        )
    )
    assert learner.circuit.feedback == "learned"
    assert learner.init_theta(KEY).shape == (1,)
    context, state = born(learner)
    after, _ = jax.jit(learner.step)(jnp.array([0.1]), context, state, 0)
    _, ahead, back = (new - old for new, old in zip(after.weights, state.weights, strict=True))
    np.testing.assert_allclose(back, ahead[:-1].T, atol=1e-6)
    assert np.abs(back).max() > 1e-3


REFLEX = Lifetime(
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
def test_classic_rules_of_conditioning_by_hand(baseline, change):
    """CS1 alone, then with the US: Δw of the second step, with traces that forget half in a step."""
    learner = baseline(REFLEX)

    @jax.jit
    def changed():
        weights, wiring, activity = learner.circuit.init(KEY, 3, 1)
        for us in (0.0, 1.0):
            stimulus = Stimulus(jnp.array([1.0, 0.0, us]), jnp.zeros(3))
            activity, _, (seen,), _ = learner.circuit.step(weights, wiring, activity, stimulus)
        return weights, learner.rule.update(jnp.array([0.3]), (), seen)[0]

    weights, delta_w = changed()
    strength = float(weights[0][0, 0])
    np.testing.assert_allclose(delta_w[:, 0], [0.3 * change(strength, 1.0, strength), 0], rtol=1e-5)


def test_rescorla_wagner_is_compared_only_where_the_circuit_is_made_for_it():
    assert list(baselines(REFLEX)) == ["rescorla_wagner", "sutton_barto"]
    weak = [Connection(pre="US", post="facilitatory", weight=0.5), *REFLEX.circuit.synapses[2:]]
    for synapses in ((REFLEX.circuit.synapses[0], *weak), (REFLEX.circuit.synapses[1], *REFLEX.circuit.synapses[2:])):
        other = replace(REFLEX, circuit=replace(REFLEX.circuit, synapses=synapses))
        assert list(baselines(other)) == ["sutton_barto"]


def test_every_baseline_of_a_feedforward_circuit_learns_or_lives():
    names = ("delta", "feedback_alignment", "backprop", "momentum", "adam", "hebb", "oja", "bcm", "covariance")
    found = baselines(LIFE, names)
    assert tuple(found) == names
    for learner in found.values():
        theta = at_rate(learner, 0.1)
        scores = final_metrics(learner, theta, LIFE.tasks.split(0).train, KEY, 8)
        assert np.isfinite(scores["accuracy"]).all()


@pytest.mark.parametrize(
    ("name", "says"), [("rescorla_wagner", "needs a circuit of conditioning"), ("sgd", "'sgd' is no baseline")]
)
def test_a_baseline_that_does_not_fit_is_refused(name, says):
    with pytest.raises(ValueError, match=says):
        baselines(LIFE, (name,))


def test_backprop_needs_a_feedforward_circuit():
    with pytest.raises(ValueError, match="feedforward|Feedforward"):
        backprop(REFLEX)


def test_an_experiment_names_the_baseline_that_does_not_fit():
    with pytest.raises(ConfigError, match="evaluation.baselines: 'sutton_barto' cannot be compared with here"):
        decode({"evaluation": {"baselines": ["sutton_barto"]}}, Experiment)
    with pytest.raises(ConfigError, match=r"evaluation.baselines.0 = 'sgd': allowed: adam, anti_hebb, "):
        decode({"evaluation": {"baselines": ["sgd"]}}, Experiment)
