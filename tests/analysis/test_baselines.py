from dataclasses import dataclass
from functools import partial

import closed
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from msgspec.structs import replace
from small import training_task

from metarule import (
    Bandit,
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
    learning_curves,
    tune,
)
from metarule.analysis.agents import IdealObserver
from metarule.analysis.baselines import (
    Descent,
    baselines,
    descent,
    feedback_alignment,
    rescorla_wagner,
    sutton_barto,
    with_rule,
)
from metarule.analysis.tuning import _best, theta_at_rate, tune_all
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


POOL = LEARNER.tasks.split(0).train


def start(learner):
    return jax.jit(learner.init)(learner.init_theta(KEY), KEY, training_task(LEARNER.tasks, 1))


def first_step(learner):
    """Context and state at step 0, and the state after a step at rate 0.1."""
    context, state = start(learner)
    return context, state, jax.jit(partial(step_at, learner))(jnp.array([0.1]), context, state, 0)[0]


def test_baselines_share_tasks_and_initial_weights_with_the_learner():
    weights = [start(learner)[1].weights for learner in (LEARNER, delta_rule(LEARNER), backprop(LEARNER))]
    jax.tree.map(np.testing.assert_array_equal, weights[0], weights[1])
    jax.tree.map(np.testing.assert_array_equal, weights[0], weights[2])


def test_a_step_of_backprop_follows_the_gradient_of_the_loss():
    learner = backprop(LEARNER)
    context, state, after = first_step(learner)
    stimulus = LEARNER.tasks.stimulus(context.task, 0, KEY)
    loss = lambda weights: LEARNER.tasks.loss(learner.circuit.step(weights, (), (), stimulus).output, stimulus.target)
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
    context, state, after = first_step(learner)

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
    circuit, inner_loop = replace(LEARNER.circuit, feedback="learned"), replace(LEARNER.inner_loop, theta="per_path")
    learner = delta_rule(replace(LEARNER, circuit=circuit, inner_loop=inner_loop))
    assert learner.circuit.feedback == "learned"
    assert learner.init_theta(KEY).shape == (1,)
    _, state, after = first_step(learner)
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
            activity, _, (synapses,), *_ = learner.circuit.step(weights, wiring, activity, stimulus)
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


@dataclass(frozen=True)
class Chooser(closed.LearnedChooser):
    """A network whose synapses see no modulator, and whose initial weights are learned unless they are random."""

    initial: str = "random"
    modulated: bool = True

    @property
    def learns_initial(self):
        return self.initial == "learned"

    def step(self, weights, wiring, state, stimulus):
        step = super().step(weights, wiring, state, stimulus)
        return step if self.modulated else step._replace(synapses=(step.synapses[0]._replace(modulator=None),))


@dataclass(frozen=True)
class Choices(closed.Arms):
    activation = "choice"


def chooser(circuit):
    return Lifetime(rule=Polynomial(terms=("pre*neuromodulator",)), circuit=circuit, tasks=Choices())


def test_default_baselines_of_a_circuit_of_ones_own_are_those_that_fit():
    assert list(baselines(chooser(Chooser()))) == ["reward_hebb", "reinforce", "q_learning"]
    assert list(baselines(chooser(Chooser(modulated=False)))) == ["reward_hebb", "q_learning"]
    assert list(baselines(chooser(closed.LearnedChooser()))) == ["q_learning"]
    with pytest.raises(
        ValueError, match=r"circuit = LearnedChooser: it learns its initial weights, .*; allowed: a field"
    ):
        baselines(chooser(closed.LearnedChooser()), ("reward_hebb",))


def test_baselines_of_a_circuit_of_ones_own_begin_with_random_weights():
    learners = baselines(chooser(Chooser(initial="learned", modulated=False)))
    assert list(learners) == ["reward_hebb", "q_learning"]
    assert not learners["reward_hebb"].learns_initial


def test_every_baseline_of_a_feedforward_circuit_stays_finite():
    names = ("delta", "feedback_alignment", "backprop", "momentum", "adam", "hebb", "oja", "bcm", "covariance")
    learners = baselines(LEARNER, names)
    assert tuple(learners) == names
    for learner in learners.values():
        theta = theta_at_rate(learner, 0.1)
        scores = final_metrics(learner, theta, POOL, KEY, 8)
        assert np.isfinite(scores["accuracy"]).all()


@pytest.mark.parametrize(
    ("name", "message"), [("rescorla_wagner", "needs a conditioning circuit"), ("sgd", "baseline 'sgd' does not exist")]
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


def test_sgd_of_optax_equals_backprop():
    plain = replace(backprop(LEARNER), rule=Descent(name="sgd"))
    theta = jnp.array([0.4])
    first, second = (learning_curves(one, theta, POOL, KEY, 8, 5).metrics for one in (backprop(LEARNER), plain))
    np.testing.assert_array_equal(first["accuracy"], second["accuracy"])


@pytest.mark.parametrize(("name", "transform"), [("momentum", optax.sgd(0.1, momentum=0.9)), ("adam", optax.adam(0.1))])
def test_updates_are_those_of_optax_on_autodiff_gradients(name, transform):
    learner = descent(replace(LEARNER, inner_loop=InnerLoop(steps=30, weight_bound=1.5)), name)
    context, learner_state = start(learner)
    weights, state = learner_state.weights, transform.init(learner_state.weights)
    for t in range(5):
        stimulus = LEARNER.tasks.stimulus(context.task, t, KEY)

        def loss(weights, stimulus=stimulus):
            return LEARNER.tasks.loss(learner.circuit.step(weights, (), (), stimulus).output, stimulus.target)

        updates, state = transform.update(jax.grad(loss)(weights), state, weights)
        weights = jax.tree.map(lambda w, u: jnp.clip(w + u, -1.5, 1.5), weights, updates)
        learner_state, _ = step_at(learner, jnp.array([0.1]), context, learner_state, t)
    for weight, expected in zip(learner_state.weights, weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)


def test_tuning_finds_the_best_rate_within_its_budget():
    learner = backprop(LEARNER)
    tuned = tune(learner, POOL, KEY, budget=1000)
    assert tuned.lifetimes <= 1000
    assert len(tuned.rates) == len(tuned.scores) == 26
    assert len(np.unique(np.round(np.log10(tuned.rates), 6))) == 25
    best = max(range(13, 26), key=lambda number: tuple(tuned.scores[number]))
    assert tuned.theta[0] == np.float32(tuned.rates[best])
    score = lambda rate: final_metrics(learner, jnp.array([rate]), POOL, jax.random.key(9), 64)["solved"].mean()
    assert score(float(tuned.theta[0])) > max(score(1e-3), score(10.0)) + 0.2


def test_of_rates_with_equal_final_scores_the_faster_one_is_chosen():
    assert _best(np.array([(0.5, 0.9), (1.0, 0.2), (1.0, 0.6), (1.0, 0.4)])) == 2


def test_learners_that_are_tuned_side_by_side_are_tuned_as_each_alone():
    learners = {"delta": delta_rule(LEARNER), "backprop": backprop(LEARNER)}
    calls = []
    together = tune_all(learners, POOL, KEY, 260, pause=lambda: calls.append(None))
    assert len(calls) == 26
    for name, learner in learners.items():
        alone = tune(learner, POOL, KEY, 260)
        assert together[name].rate == alone.rate
        np.testing.assert_array_equal(together[name].scores, alone.scores)
    assert tune_all({}, POOL, KEY, 260) == {}


def test_of_an_observer_without_theta_nothing_is_tuned():
    observer = IdealObserver(tasks=Bandit(), inner_loop=InnerLoop(steps=4))
    tuned = tune(observer, Bandit().split(0).train, KEY, budget=100)
    assert (tuned.rate, tuned.decay, tuned.theta, tuned.lifetimes) == (0, None, (), 0)
    assert theta_at_rate(observer, tuned.rate) == ()


def test_tuning_stops_where_its_caller_says_so():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune_all({"delta": delta_rule(LEARNER)}, POOL, KEY, 260, pause=stop)


def test_a_rate_does_not_change_decays():
    learner = with_rule(LEARNER, "bcm")
    before, after = learner.init_theta(KEY), theta_at_rate(learner, 0.2)
    np.testing.assert_array_equal(after["coefficients"], np.float32([0.2]))
    np.testing.assert_array_equal(after["logit_decay"], before["logit_decay"])
