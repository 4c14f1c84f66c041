from dataclasses import dataclass
from functools import partial

import chex
import closed
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from msgspec.structs import replace
from quadratic import Quadratic

from metarule import (
    Auto,
    Boolean,
    Evolution,
    Feedforward,
    Forward,
    Gradient,
    InnerLoop,
    Lifetime,
    Persistent,
    Polynomial,
    Remat,
    Reverse,
    Rollback,
    Schedule,
    Segmented,
    Truncated,
)
from metarule.config.toml import ConfigError, decode
from metarule.meta import train
from metarule.meta.gradient import robust_mean, standard_error
from metarule.meta.phases import lifetimes_of, resolved
from metarule.runs.experiment import Experiment
from metarule.types import Estimate

KEY = jax.random.key(0)
LEARNER = Lifetime(
    rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.2}, hebbian_scale=1.0),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=20),
)
POOL = LEARNER.tasks.split(0).train
OFF = Rollback(diverged=1.0, useless=1.0, jump=1e9)
PAPER = Gradient(batch_size=5, train_tasks=5, name="sgd", learning_rate=0.1, lifetime_clip=1e6, clip=1e6, rollback=OFF)


@partial(jax.jit, static_argnames=("optimizer", "learner"))
def stepped(optimizer, state, learner=LEARNER):
    return optimizer.step(learner, POOL, state, KEY)


@partial(jax.jit, static_argnames=("optimizer", "learner"))
def begun(optimizer, learner=LEARNER):
    return optimizer.init(learner, POOL, learner.init_theta(KEY), KEY)


@jax.jit
def one_lifetime(theta, step, number):
    """Estimate of one lifetime of a meta-step of `PAPER`, computed separately."""
    _, task_key, lifetime_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, step), number), 3)
    task = LEARNER.tasks.sample(task_key, POOL, (step * 5 + number) % 5)
    return Reverse().estimate(LEARNER, theta, task, (), lifetime_key)[0]


def separate(state):
    return [one_lifetime(state.iterate.theta, state.step, number) for number in range(5)]


def test_a_step_is_the_mean_of_five_gradients_taken_separately():
    state = begun(PAPER)
    for _ in range(2):
        before, lifetimes = state.iterate.theta, separate(state)
        mean = sum(estimate.gradient for estimate in lifetimes) / 5
        state, info = stepped(PAPER, state)
        np.testing.assert_allclose(state.iterate.theta, before - 0.1 * mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(info.loss, np.mean([estimate.loss for estimate in lifetimes]), rtol=1e-5)
    assert int(state.step) == 2


def test_each_gradient_is_clipped_before_the_mean():
    optimizer, state = replace(PAPER, lifetime_clip=1e-3), begun(PAPER)
    gradients = [estimate.gradient for estimate in separate(state)]
    clipped = [gradient * min(1, 1e-3 / np.linalg.norm(gradient)) for gradient in gradients]
    after, _ = stepped(optimizer, state)
    np.testing.assert_allclose(after.iterate.theta, state.iterate.theta - 0.1 * sum(clipped) / 5, rtol=1e-5, atol=1e-8)


def test_their_mean_is_clipped():
    optimizer, state = replace(PAPER, clip=1e-3), begun(PAPER)
    mean = sum(estimate.gradient for estimate in separate(state)) / 5
    after, info = stepped(optimizer, state)
    expected = state.iterate.theta - 0.1e-3 * mean / jnp.linalg.norm(mean)
    np.testing.assert_allclose(after.iterate.theta, expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(info.observed["gradient_norm"], jnp.linalg.norm(mean), rtol=1e-5)


def test_steps_are_multiples_of_the_parameter_scale():
    scaled = replace(LEARNER, rule=replace(LEARNER.rule, hebbian_scale=0.1))
    state = begun(PAPER)
    plain, _ = stepped(PAPER, state)
    after, _ = stepped(PAPER, state, scaled)
    expected = scaled.theta_scale() ** 2 * (plain.iterate.theta - state.iterate.theta)
    np.testing.assert_allclose(after.iterate.theta - state.iterate.theta, expected, rtol=1e-4, atol=1e-8)


def test_lifetimes_that_are_not_finite_are_left_out_and_counted():
    gradients = jnp.array([[1.0, 0.0], [jnp.nan, 1.0], [0.0, 3.0], [5.0, 5.0], [0.0, 0.0]])
    losses = jnp.array([1.0, 2.0, 3.0, jnp.inf, 5.0])
    mean, finite, norms = robust_mean(Estimate(losses, gradients, {"solved": losses}), clip=2.0)
    np.testing.assert_array_equal(finite, [True, False, True, False, True])
    np.testing.assert_allclose(mean.gradient, [1 / 3, 2 / 3], rtol=1e-6)
    assert mean.loss == mean.metrics["solved"] == 3
    assert norms[4] == 0


def test_the_standard_error_is_that_of_finite_lifetimes():
    losses = jnp.array([1.0, 2.0, 4.0, jnp.nan])
    finite = jnp.isfinite(losses)
    np.testing.assert_allclose(standard_error(losses, finite), np.std([1, 2, 4], ddof=1) / 3**0.5, rtol=1e-6)
    assert standard_error(losses, jnp.arange(4) == 2) == 4


def test_theta_shrinks_where_no_lifetime_is_finite():
    learner = replace(LEARNER, rule=Polynomial(terms=("weight^8", "pre"), initial={"weight^8": 1e18, "pre": 1e18}))
    learner = replace(learner, inner_loop=InnerLoop(steps=20, weight_bound=1e6))
    adam = replace(PAPER, name="adam")
    state = begun(adam, learner)
    after, info = stepped(adam, state, learner)
    assert int(info.nonfinite_lifetimes) == 5
    assert not jnp.isfinite(info.loss)
    assert bool(info.rejected)
    np.testing.assert_array_equal(after.iterate.theta, state.iterate.theta / 4)
    jax.tree.map(np.testing.assert_array_equal, after.iterate.optimizer, state.iterate.optimizer)
    np.testing.assert_array_equal(adam.theta(after), state.iterate.theta)


def test_the_typical_loss_at_the_start_is_that_of_learned_initial_weights_without_a_rule():
    circuit = Feedforward(hidden=(4,), weight_scale=9.0, initial="learned")
    learner = replace(LEARNER, circuit=circuit)
    assert begun(PAPER, learner).rollback.typical.loss > 1.5  # ln 2 for weights of 0


def test_gradients_that_are_exactly_zero_are_counted():
    learner = replace(LEARNER, rule=Polynomial(terms=("1",), initial={"1": 100.0}))
    _, info = stepped(PAPER, begun(PAPER, learner), learner)
    assert int(info.zero_gradient_lifetimes) == 5
    assert int(info.nonfinite_lifetimes) == 0


@pytest.mark.parametrize("name", ["adam", "lion", "adamw"])
def test_steps_are_those_of_the_optimiser_of_optax(name):
    optimizer, state = replace(PAPER, name=name, learning_rate=1e-2), begun(replace(PAPER, name=name))
    reference = getattr(optax, name)(1e-2)
    mean = sum(estimate.gradient for estimate in separate(state)) / 5
    updates, _ = reference.update(mean, reference.init(state.iterate.theta), state.iterate.theta)
    after, _ = stepped(optimizer, state)
    np.testing.assert_allclose(after.iterate.theta, state.iterate.theta + updates, rtol=1e-3, atol=1e-6)


def test_one_trace_serves_every_meta_step():
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda state, key: PAPER.step(LEARNER, POOL, state, key), n=1))
    state = begun(PAPER)
    for seed in range(3):
        state, _ = step(state, jax.random.key(seed))
    assert int(state.step) == 3


def test_lifetimes_of_a_run_are_counted():
    assert lifetimes_of(Gradient(steps=7, batch_size=3)) == 21
    assert lifetimes_of(Gradient(steps=7, batch_size=3, estimator=Evolution(pairs=5))) == 210


def test_memory_is_that_of_all_lifetimes_of_a_meta_step():
    long = replace(LEARNER, inner_loop=InnerLoop(steps=1000))
    few, many = (resolved(Gradient(batch_size=size, estimator=Auto(memory_gib=1e-3)), long) for size in (1, 64))
    assert few[0].estimator == Reverse(scan=Remat())
    assert many[0].estimator == Reverse(scan=Segmented())
    assert "64 lifetimes" in many[1]
    named = Gradient(estimator=Forward())
    assert resolved(named, long) == (named, "")


def test_rejected_steps_count_for_schedules():
    rate = Schedule(name="linear_schedule", arguments={"init_value": 0.1, "end_value": 0.0})
    optimizer = replace(PAPER, learning_rate=rate, steps=10)
    state = begun(optimizer)
    half_way = state._replace(step=jnp.asarray(5))  # as after five rejected steps
    first, last = (stepped(optimizer, one)[0].iterate.theta - state.iterate.theta for one in (state, half_way))
    plain = stepped(replace(PAPER, learning_rate=0.05), half_way)[0].iterate.theta - state.iterate.theta
    np.testing.assert_allclose(last, plain, rtol=1e-5, atol=1e-8)
    assert not np.allclose(first, last, rtol=1e-2)


LENGTHS = (1.0, 2.0)


class Timed(Quadratic):
    """Lifetimes whose meta-loss grows with their length, whatever θ."""

    def evaluate(self, theta, context, state):
        loss, metrics = super().evaluate(theta, context, state)
        return loss + 100.0 * self.steps, metrics


@pytest.mark.parametrize("estimator", [Reverse(), Forward(), Evolution(pairs=2)], ids=lambda one: type(one).__name__)
def test_a_meta_step_of_a_drawn_length_is_that_of_a_learner_of_that_length(estimator):
    learner = replace(LEARNER, circuit=Feedforward(hidden=()), inner_loop=InnerLoop(steps=6))
    fixed = replace(PAPER, estimator=estimator)
    drawing, state, lengths = replace(fixed, lengths=LENGTHS), begun(fixed, learner), set()
    for step in range(4):
        before = state._replace(step=jnp.asarray(step))
        after, info = stepped(drawing, before, learner)
        expected = {length: stepped(fixed, before, learner.with_steps(length)) for length in (6, 12)}
        [length] = [length for length, (_, one) in expected.items() if np.isclose(one.loss, info.loss, rtol=1e-5)]
        np.testing.assert_allclose(after.iterate.theta, expected[length][0].iterate.theta, rtol=1e-5, atol=1e-7)
        lengths.add(length)
    assert lengths == {6, 12}


def test_each_length_is_drawn_as_often_as_it_is_given_and_none_is_a_jump():
    optimizer = Gradient(steps=600, batch_size=1, lengths=(1.0, 4.0, 2.0, 1.0))
    infos = jax.jit(jax.vmap(lambda key: train(Timed(), optimizer, None, key)[1]))(jax.random.split(KEY, 2))
    first, second = np.round(infos.loss, -2)
    for drawn in (first, second):
        lengths, counts = np.unique(drawn, return_counts=True)
        np.testing.assert_array_equal(lengths, [100, 200, 400])
        # Four standard deviations of binomials of these chances.
        expected, spread = np.array([300, 150, 150]), np.sqrt(600 * np.array([1 / 4, 3 / 16, 3 / 16]))
        assert np.all(np.abs(counts - expected) < 4 * spread)
    assert np.mean(first == second) < 0.6
    assert not np.any(infos.rejected)
    assert not optimizer.comparable


def test_lifetimes_count_by_their_length():
    assert lifetimes_of(Gradient(steps=7, batch_size=4, lengths=(1.0, 2.0, 5.0, 10.0))) == 126
    assert lifetimes_of(Gradient(steps=1, batch_size=1, lengths=(1.0, 2.0))) == 2


def test_an_estimator_is_chosen_for_the_longest_lifetime():
    short = replace(LEARNER, inner_loop=InnerLoop(steps=10))
    optimizer = Gradient(batch_size=64, estimator=Auto(memory_gib=1e-3), lengths=(1.0, 100.0))
    assert resolved(optimizer, short)[0].estimator == Reverse(scan=Segmented())


@pytest.mark.parametrize("estimator", [Truncated(), Persistent()])
def test_lifetimes_that_continue_over_meta_steps_have_one_length(estimator):
    with pytest.raises(ValueError, match=r"lengths = \[1.0, 2.0\]: .* allowed: \[1.0\], or an estimator of whole"):
        Gradient(estimator=estimator, lengths=LENGTHS)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"lengths": []}, r"optimizer.lengths"),
        ({"lengths": [0.0]}, r"optimizer.lengths"),
        ({"lengths": [1.0, 1001.0]}, r"optimizer.lengths"),
        ({"lengths": [1.0] * 17}, r"optimizer.lengths"),
        ({"kind": "cma_es", "lengths": [1.0, 2.0]}, r"optimizer.*lengths"),
        ({"lengths": [1.0, 900.0]}, r"optimizer.lengths = \[1.0, 900.0\]: its longest lifetimes have 18000000 "),
    ],
)
def test_other_lengths_are_refused_in_one_line(optimizer, message):
    with pytest.raises(ConfigError, match=message) as refused:
        decode({"optimizer": {"kind": "gradient"} | optimizer, "inner_loop": {"steps": 20_000}}, Experiment)
    assert "\n" not in str(refused.value)


@dataclass(frozen=True)
class OwnEstimator:
    def init(self, learner, theta, key):
        return Reverse().init(learner, theta, key)

    def estimate(self, learner, theta, task, state, key):
        return Reverse().estimate(learner, theta, task, state, key)


def test_an_own_estimator_needs_no_registry():
    ours, own = (
        jax.jit(partial(train, LEARNER, Gradient(steps=2, batch_size=4, estimator=estimator), POOL))(KEY)[0]
        for estimator in (Reverse(), OwnEstimator())
    )
    np.testing.assert_array_equal(own, ours)
    with pytest.raises(ValueError, match="estimator = 3: "):
        Gradient(estimator=3)


def test_lifetimes_of_several_lengths_share_the_baseline_of_sampled_choices():
    lengths = Gradient(steps=6, batch_size=2, estimator=Reverse(scan=Remat()), lengths=(0.5, 1.0, 2.0))
    pool = closed.LEARNER.tasks.split(0).train
    state = lengths.init(closed.LEARNER, pool, closed.LEARNER.init_theta(KEY), KEY)
    step, losses = jax.jit(partial(lengths.step, closed.LEARNER)), []
    for number in range(1, 7):
        state, info = step(pool, state, KEY)
        losses.append(float(info.loss))
        np.testing.assert_array_equal(state.estimator.lifetimes, number)
    assert np.all(np.isfinite(losses))
    assert np.all(state.estimator.values != 0)
    assert np.all(np.asarray(lengths.theta(state)) != np.asarray(closed.LEARNER.init_theta(KEY)))
