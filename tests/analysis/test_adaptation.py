import itertools
from functools import partial

import chex
import closed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import (
    MLP,
    Boolean,
    Conditioning,
    ConditioningCircuit,
    Feedforward,
    InnerLoop,
    Lifetime,
    Polynomial,
    Recurrent,
    Tabular,
    Trace,
    learning_curves,
    unroll,
)
from metarule.analysis.adaptation import Adaptation, adapt, adaptation_curves, tune_adaptation
from metarule.analysis.baselines import descent
from metarule.lifetime.unroll import lifetime_loss, step_at

KEY = jax.random.key(0)
LEARNER = Lifetime(
    rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.3}),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=20, online_loss_weight=0.3, l1=0.1),
)
POOL, THETA = jax.jit(lambda: (LEARNER.tasks.split(0).test, LEARNER.init_theta(KEY)))()
TASK = jax.jit(LEARNER.tasks.sample)(KEY, POOL, 1)
WINDOW = Adaptation(window=5)


@partial(jax.jit, static_argnames="lifetime")
def adapted_to(task, theta=THETA, rate=0.01, lifetime=LEARNER):
    return adapt(lifetime, theta, task, KEY, WINDOW, rate)


def test_rate_zero_is_a_lifetime_with_a_frozen_rule():
    adapted = adapted_to(TASK, THETA, 0.0)

    @jax.jit
    def frozen():
        context, state = LEARNER.init(THETA, KEY, TASK)
        state, _ = unroll(LEARNER, THETA, context, state, jnp.arange(20))
        return state, LEARNER.evaluate(THETA, context, state)[1]["accuracy"]

    state, final = frozen()
    np.testing.assert_array_equal(adapted.theta, THETA)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6), adapted.state, state
    )
    assert adapted.metrics["accuracy"].shape == (5,)
    assert adapted.metrics["accuracy"][-1] == final


def test_frozen_curves_are_those_of_evaluation():
    ours = adaptation_curves(LEARNER, THETA, POOL, KEY, 6, WINDOW, 0.0, 3)
    theirs = learning_curves(LEARNER, THETA, POOL, KEY, 6, 4, 3)
    np.testing.assert_array_equal(ours.steps, theirs.steps)
    np.testing.assert_array_equal(ours.metrics["solved"], theirs.metrics["solved"])


def test_two_windows_by_hand():
    """Plain gradient descent on the loss of the steps, from one draw of weights."""
    plain = Adaptation(window=4, name="sgd", clip=1e9)
    lifetime = replace(LEARNER, inner_loop=replace(LEARNER.inner_loop, steps=8))
    context, state = jax.jit(lifetime.init)(THETA, KEY, TASK)
    theta, theta_scale = THETA, lifetime.theta_scale()

    @partial(jax.grad, has_aux=True)
    def gradient(theta, state, start):
        total = 0.0
        for t in start + jnp.arange(4):
            stimulus = lifetime.tasks.stimulus(TASK, t, KEY)
            output = lifetime.circuit.step(state.weights, context.wiring, state.circuit, stimulus).output
            total += lifetime.tasks.loss(output, stimulus.target)
            state, _ = step_at(lifetime, theta, context, state, t)
        return total / 4, state

    for start in (0, 4):
        slope, state = jax.jit(gradient)(theta, state, start)
        theta = theta - 0.05 * theta_scale**2 * slope
    adapted = jax.jit(lambda: adapt(lifetime, THETA, TASK, KEY, plain, 0.05))()
    np.testing.assert_allclose(adapted.theta, theta, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(adapted.state.weights[0], state.weights[0], rtol=1e-4, atol=1e-5)


def test_where_choices_are_sampled_the_gradient_has_the_score_function_term():
    """One window that is the whole lifetime, and a step along the gradient of its meta-loss."""
    learner, theta = closed.LEARNER, jnp.array([1.5, 1.0])
    task, plain = learner.tasks.split(0).test[0], Adaptation(window=closed.STEPS, name="sgd", clip=1e9)

    @jax.jit
    def both():
        slope = jax.grad(lambda theta: lifetime_loss(learner, theta, task, KEY)[0])(theta)
        return adapt(learner, theta, task, KEY, plain, 0.05), slope

    adapted, slope = both()
    assert np.all(np.abs(slope) > 1e-3)
    np.testing.assert_allclose(theta - adapted.theta, 0.05 * slope, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(adapted.losses, -adapted.metrics["reward"][-1:], rtol=1e-5)


def test_test_examples_do_not_affect_theta():
    tasks = Tabular(train_examples=10, test_examples=20)
    lifetime = replace(
        LEARNER, tasks=tasks, circuit=Feedforward(hidden=(), output="softmax"), inner_loop=InnerLoop(steps=20)
    )
    task = jax.jit(lambda: tasks.sample(KEY, tasks.split(0).test, 0))()
    other = task._replace(test_examples=task.test_examples[::-1] * 0, test_labels=task.test_labels * 0)
    one, two = (adapted_to(one, lifetime=lifetime) for one in (task, other))
    np.testing.assert_array_equal(one.theta, two.theta)
    assert one.metrics["accuracy"][-1] != two.metrics["accuracy"][-1]


def test_the_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        theta = jnp.asarray(np.asarray(THETA, np.float64))
        lifetime_key = jax.random.key(0)
        task = jax.jit(lambda: LEARNER.tasks.sample(lifetime_key, LEARNER.tasks.split(0).test, 1))()

        def loss(theta):
            plain = Adaptation(window=10, name="sgd", clip=1e9)
            return adapt(LEARNER, theta, task, lifetime_key, plain, 0.05).losses.sum()

        loss = jax.jit(loss)
        gradient = jax.jit(jax.grad(loss))(theta)
        for number in range(3):
            step = 1e-6 * np.eye(theta.size)[number]
            slope = (loss(theta + step) - loss(theta - step)) / 2e-6
            np.testing.assert_allclose(gradient[number], slope, rtol=1e-5, atol=1e-8)


def test_an_update_with_a_gradient_that_is_not_finite_is_skipped():
    adapted = adapted_to(TASK, THETA.at[0].set(jnp.inf), 0.1)
    np.testing.assert_array_equal(adapted.theta, THETA.at[0].set(jnp.inf))


def test_rates_share_one_program():
    count = chex.assert_max_traces(lambda rate: adapt(LEARNER, THETA, TASK, KEY, WINDOW, rate).losses, n=1)
    jitted = jax.jit(count)
    assert (jitted(0.01) != jitted(0.1)).any()


def test_adapting_improves_a_bad_rule_and_tuning_finds_the_best_rate():
    lifetime = replace(LEARNER, inner_loop=InnerLoop(steps=150))
    bad = THETA.at[list(LEARNER.rule.names).index("pre*modulator")].set(0.005)
    tuned = tune_adaptation(lifetime, bad, POOL, KEY, 7 * 16, WINDOW)
    assert (len(tuned.rates), tuned.lifetimes) == (7, 112)
    assert tuned.scores[tuned.rates.index(tuned.rate)] == max(tuned.scores)
    frozen, moving = (
        adaptation_curves(lifetime, bad, POOL, jax.random.key(5), 32, WINDOW, rate).metrics["accuracy"][:, -1].mean()
        for rate in (0.0, tuned.rate)
    )
    assert moving > frozen + 0.05


@pytest.mark.parametrize(
    ("arguments", "message"), [({"name": "adams"}, "'adams' is no optimiser"), ({"arguments": {"b9": 1.0}}, "b9")]
)
def test_an_optimiser_that_optax_does_not_have_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Adaptation(**arguments)


def test_windows_have_to_divide_a_lifetime():
    with pytest.raises(ValueError, match="windows of 7; allowed: multiples of 7"):
        adapt(LEARNER, THETA, TASK, KEY, Adaptation(window=7), 0.1)


def test_adaptation_to_tasks_with_long_lifetimes():
    conditioning = Lifetime(
        rule=Polynomial(terms=("pre*modulator",), initial={"pre*modulator": 0.3}),
        circuit=ConditioningCircuit(),
        tasks=Conditioning(),
        inner_loop=InnerLoop(steps=520),
    )
    task = jax.jit(conditioning.tasks.sample)(KEY, conditioning.tasks.split(0).test, 0)
    # Only traced: compilation takes long and tests no more.
    adapt_to = partial(adapt, conditioning, task=task, key=KEY, adaptation=Adaptation(window=20), rate=1e-3)
    adapted = jax.eval_shape(lambda theta: adapt_to(theta=theta), conditioning.init_theta(KEY))
    assert adapted.metrics["closeness"].shape == (27,)


def finite_with_gradient(learner, theta, loss):
    """Whether a loss and its derivative with respect to θ are finite."""
    value, slope = jax.jit(jax.value_and_grad(partial(loss, learner)))(theta)
    return jnp.isfinite(value) and all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def sum_of_results(lifetime, theta):
    """Sum of all results of adaptation."""
    task = lifetime.tasks.sample(KEY, lifetime.tasks.split(0).test, 1)
    adapted = adapt(lifetime, theta, task, KEY, Adaptation(window=4), 0.01)
    return adapted.losses.sum() + sum(
        jnp.sum(leaf**2) for leaf in jax.tree.leaves((adapted.theta, adapted.state.weights))
    )


ZERO = Polynomial(terms=("seven",))
TRACED = Polynomial(terms=("e*modulator", "weight"), traces={"e": Trace(of="pre*post", decay=0.5, learned=True)})
# Gradients that are exactly 0: zero rules, dead neurons, weights without effect in the window.
CORNERS = {
    ("zero rule", "learned feedback", "per_path"): (ZERO, Feedforward(hidden=(2,), feedback="learned")),
    ("zero rule", "relu with f'", "per_projection"): (
        ZERO,
        Feedforward(hidden=(2,), activation="relu", derivative=True),
    ),
    ("all gradients 0", "no errors, no bias", "shared"): (
        Polynomial(terms=("pre*post*weight",)),
        Feedforward(hidden=(), feedback="zero", weight_scale=0.0),
    ),
}


@pytest.mark.parametrize("corner", CORNERS, ids=", ".join)
def test_derivatives_are_finite_where_gradients_are_zero(corner):
    rule, circuit = CORNERS[corner]
    inner_loop = InnerLoop(steps=8, theta=corner[-1])
    lifetime = Lifetime(rule=rule, circuit=circuit, tasks=Boolean(inputs=2), inner_loop=inner_loop)
    assert finite_with_gradient(lifetime, jax.jit(lifetime.init_theta)(KEY), sum_of_results)


ALL = list(
    itertools.product(
        (ZERO, TRACED, MLP(hidden=(2,), initial_spread=0.0)),
        ("identity", "relu", "sigmoid", "softplus", "tanh"),
        ("learned", "random", "transpose", "zero", "recurrent"),
        ("shared", "per_path", "per_projection"),
    )
)


@pytest.mark.long
@pytest.mark.parametrize(("rule", "activation", "feedback", "sharing"), ALL)
def test_derivatives_of_all_rules_in_all_circuits_are_finite(rule, activation, feedback, sharing):
    circuit = (
        Recurrent(neurons=2, activation=activation)
        if feedback == "recurrent"
        else Feedforward(hidden=(2,), activation=activation, feedback=feedback, derivative=activation == "relu")
    )
    inner_loop = InnerLoop(steps=8, theta=sharing)
    lifetime = Lifetime(rule=rule, circuit=circuit, tasks=Boolean(inputs=2), inner_loop=inner_loop)
    assert finite_with_gradient(lifetime, jax.jit(lifetime.init_theta)(KEY), sum_of_results)
    jax.clear_caches()  # hundreds of programs exceed the memory


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_derivatives_of_baselines_are_finite_where_neurons_are_dead(name):
    circuit = Feedforward(hidden=(2,), activation="relu", weight_scale=0.0)
    lifetime = Lifetime(rule=ZERO, circuit=circuit, tasks=Boolean(inputs=2), inner_loop=InnerLoop(steps=4))

    def end(learner, theta):
        context, state = learner.init(theta, KEY, learner.tasks.sample(KEY, learner.tasks.split(0).test, 1))
        state, outputs = unroll(learner, theta, context, state, jnp.arange(4))
        return outputs.loss.sum() + learner.evaluate(theta, context, state)[0]

    assert finite_with_gradient(descent(lifetime, name), jnp.array([0.1]), end)
