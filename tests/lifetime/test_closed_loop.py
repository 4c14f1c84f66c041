"""Closed loops: a network acts, its task reacts, and the synapses see the reward of the step in which it arrives."""

import re
from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed import LEARNER, LOOP, STEPS, Arms, Chooser, Rewarded, with_tasks

from metarule import Experiment, Gradient, Lifetime, evaluate, learning_curves
from metarule.kernels import kernels
from metarule.lifetime.trial import try_out
from metarule.lifetime.unroll import is_compiled, lifetime_loss
from metarule.protocols import ClosedLoop, Sampling

KEY = jax.random.key(3)
THETA = jnp.array([0.5, 0.2])
LIFETIMES = 16


def run_lifetime(learner):
    """Initial states, states at the end, and observables, local variables and scores of some lifetimes."""

    def one(key, number):
        task = learner.tasks.sample(key, learner.tasks.split(0).train, number)
        context, start = learner.init(THETA, key, task)

        def step(state, t):
            after, output, record = learner.step_with_record(THETA, context, state, learner.stimulus(context, t))
            return after, (output, record[1][0])

        end, seen = jax.lax.scan(step, start, jnp.arange(learner.steps))
        return task, start, end, *seen, learner.evaluate(THETA, context, end)

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(KEY, LIFETIMES), jnp.arange(LIFETIMES)))


@pytest.fixture(scope="module")
def lifetimes():
    return run_lifetime(LEARNER)


@pytest.fixture(scope="module")
def delayed():
    return run_lifetime(with_tasks(delay=1))


def pays(task, outputs):
    """Pay of each choice [lifetimes, steps], from the outputs."""
    return np.sum(task[:, None] * outputs[..., :2], axis=-1) * outputs[..., 2]


def test_it_is_a_closed_loop_whose_choices_are_one_hot_and_differ(lifetimes):
    assert isinstance(LEARNER.tasks, ClosedLoop)
    assert isinstance(LEARNER, Sampling)
    assert LEARNER.samples
    assert not LEARNER.invertible
    assert not LEARNER.chunkable
    choices = lifetimes[3].output[..., :2]
    np.testing.assert_array_equal(np.sort(choices, axis=-1), np.broadcast_to([0.0, 1.0], choices.shape))
    assert 0.2 < choices[..., 0].mean() < 0.9


def test_a_reward_reaches_the_synapses_in_the_step_in_which_it_arrives(lifetimes, delayed):
    task, *_, outputs, variables, _ = lifetimes
    np.testing.assert_allclose(variables["neuromodulator"], pays(task, outputs.output), rtol=1e-5, atol=1e-6)
    task, *_, outputs, variables, _ = delayed
    rewards = pays(task, outputs.output)
    np.testing.assert_array_equal(variables["neuromodulator"][:, 0], 0)
    np.testing.assert_allclose(variables["neuromodulator"][:, 1:], rewards[:, :-1], rtol=1e-5, atol=1e-6)


def test_without_a_target_the_error_is_choice_minus_probability(lifetimes):
    outputs, variables = lifetimes[3:5]
    choices, errors = outputs.output[..., :2], variables["modulator"]
    probability = np.sum(choices * (choices - errors[..., :2]), axis=-1)
    np.testing.assert_allclose(np.exp(outputs.log_probability), probability, rtol=1e-5)
    np.testing.assert_allclose(errors[..., :2].sum(axis=-1), 0, atol=1e-6)
    np.testing.assert_array_equal(errors[..., 2], 0)


def test_a_target_and_a_loss_of_the_reaction_count():
    *_, outputs, variables, _ = run_lifetime(with_tasks(graded=True))
    wager = outputs.output[..., 2]
    np.testing.assert_allclose(variables["modulator"][..., 2], -wager, rtol=1e-6)
    np.testing.assert_allclose(outputs.loss, wager**2 / STEPS, rtol=1e-5)


def test_the_state_of_the_task_is_carried_and_gives_loss_and_scores(lifetimes):
    task, start, end, outputs, _, (final, scores) = lifetimes
    rewards = pays(task, outputs.output)
    chex.assert_trees_all_equal_shapes_and_dtypes(start.task, end.task)
    np.testing.assert_array_equal(end.task["steps"], STEPS)
    np.testing.assert_allclose(end.task["collected"], rewards.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(outputs.loss.sum(axis=1), -rewards.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(final, 0)
    np.testing.assert_allclose(scores["reward"], rewards.mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(scores["diverged"], 0)
    assert np.ptp(end.weights[0], axis=0).min() > 0


def test_a_step_without_a_key_is_refused():
    context, state = LEARNER.init(THETA, KEY, jnp.ones(2))
    stimulus = LEARNER.stimulus(context, 0)._replace(key=None)
    with pytest.raises(ValueError, match=r"^stimulus.key: a step in a closed loop needs a key, as `Lifetime.stimulus`"):
        LEARNER.step(THETA, context, state, stimulus)


def test_a_network_without_samples_acts_in_a_closed_loop_too():
    learner = Lifetime(rule=Rewarded(), circuit=Chooser(stochastic=False), tasks=Arms(), inner_loop=LOOP)
    assert not learner.samples
    outputs = run_lifetime(learner)[3]
    assert outputs.log_probability is None
    assert np.all((outputs.output > 0) & (outputs.output < 1))


@pytest.mark.long
def test_a_closed_loop_is_compiled_to_one_operation():
    with kernels("on"):
        context, state = LEARNER.init(THETA, KEY, jnp.ones(2))
        assert is_compiled(LEARNER, THETA, context, state)


def test_curves_and_scores_of_held_out_tasks_come_from_the_state():
    pool = LEARNER.tasks.split(0).test
    curves = learning_curves(LEARNER, THETA, pool, KEY, 8, 2)
    np.testing.assert_array_equal(curves.metrics["reward"][:, 0], 0)
    assert np.all(curves.metrics["reward"][:, -1] != 0)
    assert evaluate(LEARNER, THETA, pool, KEY, lifetimes=8)["reward"] == pytest.approx(
        float(curves.metrics["reward"][:, -1].mean()), rel=1e-5
    )


FAULTS = {
    "state": r"tasks: state that react returns: \['.*'\] = .*; allowed: .*",
    "count": r"tasks: state that react returns: \['.*'\] = float32\[\]; allowed: int32\[\]",
    "number": r"tasks: start returns state\['steps'\] = 0; allowed: arrays of numbers, such as jnp.zeros\(\(\)\)",
    "rewardless": r"tasks: the reward that react returns = None; allowed: a number",
    "word": r"tasks: the reward that react returns = 'much'; allowed: a number",
    "blind": r"tasks: the input that sense returns at step 2 = \[nan\]; allowed: finite numbers",
    "unscored": r"tasks: scores returns {}; allowed: scalars by name, at least one",
    "unseen": r"tasks: sense returns a .*; allowed: a Stimulus",
    "primary": r"tasks.primary_metric = 'best'; allowed: reward.*",
    "vector": r"tasks: the shape of the reward = \(1,\); allowed: \(\)",
    "tuple": r"tasks: react returns a tuple; allowed: a Reaction",
    "target": r"tasks: the shape of the target = \(2,\); allowed: \(3,\)",
    "error": r"rule, circuit, tasks: a lifetime cannot be traced: KeyError: 'missing'.*",
    "nan": r"tasks: the reward at step 2 = nan; allowed: finite numbers",
    "infinite": r"tasks: the loss at step 2 = inf; allowed: finite numbers",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_reaction_is_refused_in_one_line(fault):
    with pytest.raises(ValueError, match=FAULTS[fault]) as caught:
        try_out(with_tasks(fault=fault))
    assert re.fullmatch(FAULTS[fault], str(caught.value))


def test_a_circuit_that_hides_its_samples_is_refused():
    @dataclass(frozen=True)
    class Hiding(Chooser):
        def step(self, weights, wiring, state, stimulus):
            return Chooser().step(weights, wiring, state, stimulus)

    with pytest.raises(
        ValueError, match=r"circuit: step returns a log_probability, .* allowed: with stochastic = True"
    ):
        Lifetime(rule=Rewarded(), circuit=Hiding(stochastic=False), tasks=Arms(), inner_loop=LOOP)


def test_the_state_of_a_task_may_gate_plasticity():
    @dataclass(frozen=True)
    class Gated(Arms):
        def sense(self, task, state, stimulus):
            return stimulus._replace(plasticity=jnp.where(state["steps"] == 1, 1.0, 0.0))

    learner = Lifetime(rule=Rewarded(), circuit=Chooser(), tasks=Gated(), inner_loop=LOOP)
    context, state = learner.init(THETA, KEY, jnp.ones(2))
    changes = []
    for t in range(3):
        after, _ = learner.step(THETA, context, state, learner.stimulus(context, t))
        changes.append(float(jnp.max(jnp.abs(after.weights[0] - state.weights[0]))))
        state = after
    assert changes[0] == changes[2] == 0 < changes[1]


def test_stimuli_and_reactions_draw_other_random_numbers():
    @dataclass(frozen=True)
    class Drawing(Arms):
        def stimulus(self, task, t, key):
            key = jax.random.split(jax.random.split(key)[0])[1]
            return super().stimulus(task, t, key)._replace(input=jax.random.uniform(key, (1,)))

        def sense(self, task, state, stimulus):
            assert stimulus.key is None
            return stimulus

        def react(self, task, state, output, key):
            return super().react(task, state, output, key)._replace(reward=jax.random.uniform(key))

    variables = run_lifetime(Lifetime(rule=Rewarded(), circuit=Chooser(), tasks=Drawing(), inner_loop=LOOP))[4]
    assert np.all(variables["pre"][..., 0] != variables["neuromodulator"])


def test_a_sound_closed_loop_passes():
    try_out(LEARNER)
    try_out(with_tasks(delay=1))


@pytest.mark.parametrize("fault", ["tuple", "nan"])
def test_an_experiment_refuses_a_faulty_reaction(fault):
    parts = {"rule": Rewarded(), "circuit": Chooser(), "inner_loop": LOOP}
    assert Experiment(tasks=Arms(), **parts).lifetime == LEARNER
    with pytest.raises(ValueError, match=FAULTS[fault]):
        Experiment(tasks=Arms(fault=fault), optimizer=Gradient(steps=1), **parts)


def test_a_lifetime_is_the_same_for_the_same_key():
    task = LEARNER.tasks.split(0).train[0]
    loss = jax.jit(lambda key: lifetime_loss(LEARNER, THETA, task, key)[0])
    losses = [float(loss(jax.random.key(number))) for number in range(6)]
    assert losses[0] == float(loss(jax.random.key(0)))
    assert len(set(losses)) > 1
