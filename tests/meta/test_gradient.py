from functools import partial

import chex
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
LIFE = Lifetime(
    rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.2}, hebbian_scale=1.0),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=20),
)
POOL = LIFE.tasks.split(0).train
OFF = Rollback(diverged=1.0, useless=1.0, jump=1e9)
PAPER = Gradient(batch_size=5, train_tasks=5, name="sgd", learning_rate=0.1, lifetime_clip=1e6, clip=1e6, rollback=OFF)


@partial(jax.jit, static_argnames=("optimizer", "context"))
def stepped(optimizer, state, context=LIFE):
    return optimizer.step(context, POOL, state, KEY)


@partial(jax.jit, static_argnames=("optimizer", "context"))
def begun(optimizer, context=LIFE):
    return optimizer.init(context, POOL, context.init_theta(KEY), KEY)


@jax.jit
def one_lifetime(theta, step, number):
    """The θ-gradient of one network of a cycle of `PAPER`, taken alone."""
    _, task_key, lifetime_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, step), number), 3)
    task = LIFE.tasks.sample(task_key, POOL, (step * 5 + number) % 5)
    return Reverse().estimate(LIFE, theta, task, (), lifetime_key)[0]


def separate(state):
    return [one_lifetime(state.iterate.theta, state.step, number) for number in range(5)]


def test_a_step_is_the_mean_of_five_gradients_taken_separately():
    state = begun(PAPER)
    for _ in range(2):
        before, lifetimes = state.iterate.theta, separate(state)
        mean = sum(context.gradient for context in lifetimes) / 5
        state, info = stepped(PAPER, state)
        np.testing.assert_allclose(state.iterate.theta, before - 0.1 * mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(info.loss, np.mean([context.loss for context in lifetimes]), rtol=1e-5)
    assert int(state.step) == 2


def test_each_gradient_is_clipped_before_the_mean():
    optimizer, state = replace(PAPER, lifetime_clip=1e-3), begun(PAPER)
    gradients = [context.gradient for context in separate(state)]
    clipped = [gradient * min(1, 1e-3 / np.linalg.norm(gradient)) for gradient in gradients]
    after, _ = stepped(optimizer, state)
    np.testing.assert_allclose(after.iterate.theta, state.iterate.theta - 0.1 * sum(clipped) / 5, rtol=1e-5, atol=1e-8)


def test_their_mean_is_clipped():
    optimizer, state = replace(PAPER, clip=1e-3), begun(PAPER)
    mean = sum(context.gradient for context in separate(state)) / 5
    after, info = stepped(optimizer, state)
    np.testing.assert_allclose(
        after.iterate.theta, state.iterate.theta - 0.1e-3 * mean / jnp.linalg.norm(mean), rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(info.observed["gradient_norm"], jnp.linalg.norm(mean), rtol=1e-5)


def test_steps_are_taken_in_the_units_of_theta():
    scaled = replace(LIFE, rule=replace(LIFE.rule, hebbian_scale=0.1))
    state = begun(PAPER)
    plain, _ = stepped(PAPER, state)
    after, _ = stepped(PAPER, state, scaled)
    np.testing.assert_allclose(
        after.iterate.theta - state.iterate.theta,
        scaled.theta_scale() ** 2 * (plain.iterate.theta - state.iterate.theta),
        rtol=1e-4,
        atol=1e-8,
    )


def test_lives_that_are_not_finite_are_left_out_and_counted():
    gradients = jnp.array([[1.0, 0.0], [jnp.nan, 1.0], [0.0, 3.0], [5.0, 5.0], [0.0, 0.0]])
    losses = jnp.array([1.0, 2.0, 3.0, jnp.inf, 5.0])
    mean, finite, norms = robust_mean(Estimate(losses, gradients, {"solved": losses}), clip=2.0)
    np.testing.assert_array_equal(finite, [True, False, True, False, True])
    np.testing.assert_allclose(mean.gradient, [1 / 3, 2 / 3], rtol=1e-6)
    assert mean.loss == mean.metrics["solved"] == 3
    assert norms[4] == 0


def test_the_standard_error_is_that_of_lives_that_are_finite():
    losses = jnp.array([1.0, 2.0, 4.0, jnp.nan])
    finite = jnp.isfinite(losses)
    np.testing.assert_allclose(standard_error(losses, finite), np.std([1, 2, 4], ddof=1) / 3**0.5, rtol=1e-6)
    assert standard_error(losses, jnp.arange(4) == 2) == 4


def test_theta_is_led_back_where_no_life_is_finite():
    context = replace(LIFE, rule=Polynomial(terms=("weight^8", "pre"), initial={"weight^8": 1e18, "pre": 1e18}))
    context = replace(context, inner_loop=InnerLoop(steps=20, weight_bound=1e6))
    adam = replace(PAPER, name="adam")
    state = begun(adam, context)
    after, info = stepped(adam, state, context)
    assert int(info.nonfinite_lifetimes) == 5
    assert not jnp.isfinite(info.loss)
    assert bool(info.rejected)
    np.testing.assert_array_equal(after.iterate.theta, state.iterate.theta / 4)
    jax.tree.map(np.testing.assert_array_equal, after.iterate.optimizer, state.iterate.optimizer)
    np.testing.assert_array_equal(adam.theta(after), state.iterate.theta)


def test_gradients_that_are_exactly_zero_are_counted():
    context = replace(LIFE, rule=Polynomial(terms=("1",), initial={"1": 100.0}))
    _, info = stepped(PAPER, begun(PAPER, context), context)
    assert int(info.zero_gradient_lifetimes) == 5
    assert int(info.nonfinite_lifetimes) == 0


@pytest.mark.parametrize("name", ["adam", "lion", "adamw"])
def test_optimisers_of_optax_make_their_own_steps(name):
    optimizer, state = replace(PAPER, name=name, learning_rate=1e-2), begun(replace(PAPER, name=name))
    reference = getattr(optax, name)(1e-2)
    mean = sum(context.gradient for context in separate(state)) / 5
    updates, _ = reference.update(mean, reference.init(state.iterate.theta), state.iterate.theta)
    after, _ = stepped(optimizer, state)
    np.testing.assert_allclose(after.iterate.theta, state.iterate.theta + updates, rtol=1e-3, atol=1e-6)


def test_one_trace_serves_every_meta_step():
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda state, key: PAPER.step(LIFE, POOL, state, key), n=1))
    state = begun(PAPER)
    for seed in range(3):
        state, _ = step(state, jax.random.key(seed))
    assert int(state.step) == 3


def test_a_run_costs_its_lifetimes():
    assert lifetimes_of(Gradient(steps=7, batch_size=3)) == 21
    assert lifetimes_of(Gradient(steps=7, batch_size=3, estimator=Evolution(pairs=5))) == 210


def test_an_estimator_that_chooses_counts_all_lives_of_a_meta_step():
    long = replace(LIFE, inner_loop=InnerLoop(steps=1000))
    few, many = (resolved(Gradient(batch_size=size, estimator=Auto(memory_gib=1e-3)), long) for size in (1, 64))
    assert few[0].estimator == Reverse(scan=Remat())
    assert many[0].estimator == Reverse(scan=Segmented())
    assert "64 lifetimes" in many[1]
    named = Gradient(estimator=Forward())
    assert resolved(named, long) == (named, "")


def test_a_schedule_goes_by_meta_steps_also_where_steps_are_taken_back():
    rate = Schedule(name="linear_schedule", arguments={"init_value": 0.1, "end_value": 0.0})
    optimizer = replace(PAPER, learning_rate=rate, steps=10)
    state = begun(optimizer)
    half_way = state._replace(step=jnp.asarray(5))  # as after five steps that were all taken back
    first, last = (stepped(optimizer, one)[0].iterate.theta - state.iterate.theta for one in (state, half_way))
    plain = stepped(replace(PAPER, learning_rate=0.05), half_way)[0].iterate.theta - state.iterate.theta
    np.testing.assert_allclose(last, plain, rtol=1e-5, atol=1e-8)
    assert not np.allclose(first, last, rtol=1e-2)


LENGTHS = (1.0, 2.0)


class Timed(Quadratic):
    """The longer they live, the larger is the meta-loss, whatever θ."""

    def evaluate(self, theta, context, learner_state):
        loss, metrics = super().evaluate(theta, context, learner_state)
        return loss + 100.0 * self.steps, metrics


@pytest.mark.parametrize("estimator", [Reverse(), Forward(), Evolution(pairs=2)], ids=lambda one: type(one).__name__)
def test_a_meta_step_of_a_drawn_length_is_that_of_a_learner_of_that_length(estimator):
    context = replace(LIFE, circuit=Feedforward(hidden=()), inner_loop=InnerLoop(steps=6))
    fixed = replace(PAPER, estimator=estimator)
    drawing, state, lived = replace(fixed, lengths=LENGTHS), begun(fixed, context), set()
    for step in range(4):
        here = state._replace(step=jnp.asarray(step))
        found, info = stepped(drawing, here, context)
        [(length, expected)] = [
            (length, after)
            for length in (6, 12)
            for after, seen in [stepped(fixed, here, context.with_steps(length))]
            if np.isclose(seen.loss, info.loss, rtol=1e-5)
        ]
        np.testing.assert_allclose(found.iterate.theta, expected.iterate.theta, rtol=1e-5, atol=1e-7)
        lived.add(length)
    assert lived == {6, 12}


def test_each_length_is_drawn_as_often_as_it_is_given_and_none_is_a_jump():
    optimizer = Gradient(steps=600, batch_size=1, lengths=(1.0, 4.0, 2.0, 1.0))
    seen = jax.jit(jax.vmap(lambda key: train(Timed(), optimizer, None, key)[1]))(jax.random.split(KEY, 2))
    first, second = np.round(seen.loss, -2)
    for drawn in (first, second):
        lengths, counts = np.unique(drawn, return_counts=True)
        np.testing.assert_array_equal(lengths, [100, 200, 400])
        # Four standard deviations of binomials of these chances.
        expected, spread = np.array([300, 150, 150]), np.sqrt(600 * np.array([1 / 4, 3 / 16, 3 / 16]))
        assert np.all(np.abs(counts - expected) < 4 * spread)
    assert np.mean(first == second) < 0.6
    assert not np.any(seen.rejected)
    assert not optimizer.comparable


def test_lifetimes_count_by_their_length():
    assert lifetimes_of(Gradient(steps=7, batch_size=4, lengths=(1.0, 2.0, 5.0, 10.0))) == 126
    assert lifetimes_of(Gradient(steps=1, batch_size=1, lengths=(1.0, 2.0))) == 2


def test_an_estimator_is_chosen_for_the_longest_lifetime():
    short = replace(LIFE, inner_loop=InnerLoop(steps=10))
    optimizer = Gradient(batch_size=64, estimator=Auto(memory_gib=1e-3), lengths=(1.0, 100.0))
    assert resolved(optimizer, short)[0].estimator == Reverse(scan=Segmented())


@pytest.mark.parametrize("estimator", [Truncated(), Persistent()])
def test_lifetimes_that_go_on_over_meta_steps_have_one_length(estimator):
    with pytest.raises(ValueError, match=r"lengths = \[1.0, 2.0\]: .* allowed: \[1.0\], or an estimator of whole"):
        Gradient(estimator=estimator, lengths=LENGTHS)


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        ({"lengths": []}, r"optimizer.lengths"),
        ({"lengths": [0.0]}, r"optimizer.lengths"),
        ({"lengths": [1.0, 1001.0]}, r"optimizer.lengths"),
        ({"lengths": [1.0] * 17}, r"optimizer.lengths"),
        ({"kind": "cma_es", "lengths": [1.0, 2.0]}, r"optimizer.*lengths"),
        ({"lengths": [1.0, 900.0]}, r"optimizer.lengths = \[1.0, 900.0\]: its longest lifetimes have 18000000 "),
    ],
)
def test_other_lengths_are_refused_in_one_line(optimizer, says):
    with pytest.raises(ConfigError, match=says) as refused:
        decode({"optimizer": {"kind": "gradient"} | optimizer, "inner_loop": {"steps": 20_000}}, Experiment)
    assert "\n" not in str(refused.value)
