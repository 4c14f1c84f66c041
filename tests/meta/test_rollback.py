"""Steps that go badly are rejected, and training never gets stuck."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import Boolean, Feedforward, Gradient, InnerLoop, Lifetime, Persistent, Polynomial, Truncated
from metarule.meta import begin, train
from metarule.meta.rollback import BatchSummary, Iterate, Rollback

ROLLBACK = Rollback(diverged=0.1, useless=0.5, jump=8.0)
START = Iterate(jnp.array([8.0]), jnp.zeros(()))


@jax.jit
def judged(rollback_state, here, loss, diverged, frozen):
    """One meta-step whose optimiser would add 1 to θ, and counts."""
    there = Iterate(here.theta + rollback_state.scale, here.optimizer + 1)
    loss, diverged, frozen = (jnp.asarray(value, float) for value in (loss, diverged, frozen))
    return ROLLBACK.move(rollback_state, here, there, BatchSummary(loss, jnp.asarray(0.1), diverged, diverged + frozen))


def walk(*seen):
    """Iterates after meta-steps of some (loss, share of diverged lifetimes, share with zero gradient)."""
    here, rollback_state = START, ROLLBACK.init(START)
    for loss, diverged, frozen in seen:
        here, rollback_state, rejected = judged(rollback_state, here, loss, diverged, frozen)
        yield float(here.theta[0]), float(here.optimizer), float(rollback_state.scale), bool(rejected)


GOOD, DIVERGED, FROZEN = (1.0, 0.0, 0.0), (np.nan, 1.0, 0.0), (1.0, 0.0, 0.6)


def test_steps_that_go_well_are_those_of_the_optimiser():
    walked = list(walk(GOOD, (1.7, 0.0, 0.49), (1.1, 0.09, 0.0)))
    assert walked == [(9, 1, 1, False), (10, 2, 1, False), (11, 3, 1, False)]


@pytest.mark.parametrize(
    "ill",
    [DIVERGED, FROZEN, (1.0, 0.1, 0.0), (1.9, 0.0, 0.0)],
    ids=["diverged", "frozen", "some diverged", "the loss jumps"],
)
def test_a_step_after_which_lives_go_badly_is_taken_back_and_those_that_follow_are_shorter(ill):
    *_, before, after, again = walk(GOOD, GOOD, ill, GOOD)
    assert before == (10, 2, 1, False)
    # θ was good at 9, from where the step led to 10.
    assert after == (9, 1, 0.5, True)
    assert again == (9.5, 2, pytest.approx(0.5 * 2 ** (1 / 8)), False)


def test_steps_that_go_well_are_as_long_again_as_the_optimiser_asks_for():
    scales = [scale for _, _, scale, _ in walk(GOOD, GOOD, DIVERGED, *[GOOD] * 10)]
    np.testing.assert_allclose(scales[2:], [min(1, 0.5 * 2 ** (n / 8)) for n in range(11)], rtol=1e-6)


def test_the_step_after_a_rollback_is_accepted_whatever_the_lifetimes():
    walked = list(walk(GOOD, DIVERGED, DIVERGED, GOOD))
    assert walked == [
        (9, 1, 1, False),
        (8, 0, 0.5, True),
        (8.5, 1, 0.5, False),
        (9, 2, pytest.approx(0.5 * 2 ** (1 / 8)), False),
    ]


def test_a_beginning_at_which_lives_go_badly_is_led_far_towards_zero_and_steps_are_as_long_as_before():
    losses = [5.0, 6.0, 3.0, 1.0, 1.5, 2.0, 2.0, 2.0]
    *way, there, on = walk(DIVERGED, DIVERGED, *[(loss, 0.0, 0.0) for loss in losses], GOOD)
    # The first at which lifetimes go well is 8/4²; at 8/4⁵ the loss is lowest.
    assert [theta for theta, *_ in way] == [8 / 4**n for n in range(1, 10)]
    assert there == (8 / 4**5, 0, 1, True)
    assert on == (8 / 4**5 + 1, 1, 1, False)


def test_a_theta_on_the_way_at_which_lives_go_badly_does_not_count():
    well = [(1.0 + number, 0.0, 0.0) for number in range(8)]
    *_, (theta, *_) = walk(DIVERGED, well[0], DIVERGED, *well[1:])
    assert theta == 8 / 4


def test_a_loss_that_is_as_high_at_the_last_good_place_is_typical_from_then_on():
    walked = list(walk(*[GOOD] * 5, *[(5.0, 0.0, 0.0)] * 20))
    assert [rejected for *_, rejected in walked] == [False] * 5 + [True] + [False] * 19
    assert walked[5][0] == 12


def test_a_loss_that_creeps_up_is_noticed():
    rejected = [step[3] for step in walk(*[GOOD] * 30, *[(1.0 + 0.03 * number, 0.0, 0.0) for number in range(60)])]
    assert any(rejected[30:])


LIFE = Lifetime(
    rule=Polynomial(terms=("pre*modulator", "weight*pre"), initial={"pre*modulator": 1e9, "weight*pre": 1e9}),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=50, weight_bound=1e6),
)


@pytest.mark.parametrize(
    ("initial", "bound"),
    [(1e9, 1e6), (1e9, 2.0), (30.0, 2.0)],
    ids=["no gradient, hardly any bounds", "no gradient", "worse than nothing"],
)
def test_training_recovers_from_a_theta_under_which_no_life_is_of_use(initial, bound):
    rule = replace(LIFE.rule, initial={"pre*modulator": initial, "weight*pre": initial})
    context = replace(LIFE, rule=rule, inner_loop=replace(LIFE.inner_loop, weight_bound=bound))
    optimizer = Gradient(steps=60, batch_size=16, learning_rate=3e-2)
    pool = context.tasks.split(0).train
    theta, seen = jax.jit(lambda key: train(context, optimizer, pool, key))(jax.random.key(0))
    assert bool(seen.rejected[0])
    assert not np.any(seen.rejected[-10:])
    assert np.isfinite(theta).all()
    assert seen.loss[-10:].mean() < 0.6


WINDOWED = replace(
    LIFE,
    rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.2}),
    inner_loop=InnerLoop(steps=40, online_loss_weight=0.0),
)


@pytest.mark.parametrize(
    ("estimator", "tasks"),
    [
        (Truncated(window=10, staggered=False), 1),
        (Truncated(window=10, staggered=False), 8),
        (Persistent(window=10, staggered=False), 8),
    ],
)
def test_windows_that_differ_by_their_place_in_the_life_are_no_jumps(estimator, tasks):
    optimizer = Gradient(steps=12, batch_size=tasks, estimator=estimator)
    pool = WINDOWED.tasks.split(0).train
    theta, seen = jax.jit(lambda key: train(WINDOWED, optimizer, pool, key))(jax.random.key(0))
    assert not np.any(seen.rejected)
    assert not np.array_equal(theta, WINDOWED.init_theta(jax.random.key(0)))


def test_a_life_that_diverged_gives_way_to_a_new_one_in_the_next_window():
    optimizer = Gradient(steps=12, batch_size=8, estimator=Truncated(window=10))
    pool, key = WINDOWED.tasks.split(0).train, jax.random.key(0)
    step = jax.jit(lambda state: optimizer.step(WINDOWED, pool, state, key))
    state, _ = step(begin(WINDOWED, optimizer, pool, key))
    ongoing = state.estimator
    broken = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), ongoing.state)
    _, info = step(state._replace(estimator=ongoing._replace(state=broken)))
    assert int(info.nonfinite_lifetimes) == 0


def test_decays_stay_as_they_are_on_the_way_towards_zero():
    start = Iterate({"coefficients": jnp.array([8.0]), "logit_decay": jnp.array([4.6])}, jnp.zeros(()))
    diverged = BatchSummary(jnp.asarray(jnp.nan), jnp.asarray(jnp.nan), jnp.asarray(1.0), jnp.asarray(1.0))
    after, _, rejected = ROLLBACK.move(ROLLBACK.init(start), start, start, diverged)
    assert bool(rejected)
    np.testing.assert_array_equal(after.theta["coefficients"], [2.0])
    np.testing.assert_array_equal(after.theta["logit_decay"], start.theta["logit_decay"])


def test_what_was_typical_of_short_lives_is_forgotten_where_lives_get_longer():
    rollback_state = ROLLBACK.init(START)
    for _ in range(5):
        here, rollback_state, _ = judged(rollback_state, START, *GOOD)
    assert bool(judged(rollback_state, here, 5.0, 0.0, 0.0)[2])
    assert not bool(judged(ROLLBACK.forget_typical(rollback_state, jnp.asarray(True)), here, 5.0, 0.0, 0.0)[2])
    assert bool(judged(ROLLBACK.forget_typical(rollback_state, jnp.asarray(False)), here, 5.0, 0.0, 0.0)[2])


def test_a_beginning_that_is_far_worse_than_doing_nothing_is_led_towards_zero():
    idle = BatchSummary(jnp.asarray(0.7), jnp.asarray(0.1), jnp.zeros(()), jnp.zeros(()))
    for loss, led in ((4.0, True), (1.1, False)):
        here, _, rejected = judged(ROLLBACK.init(START, idle), START, loss, 0.0, 0.0)
        assert bool(rejected) == led
        assert float(here.theta[0]) == (2.0 if led else 9.0)


def test_what_doing_nothing_costs_is_the_loss_of_lives_that_do_not_change():
    context = replace(LIFE, inner_loop=InnerLoop(steps=20, online_loss_weight=0.3))
    optimizer, pool = Gradient(batch_size=4), context.tasks.split(0).train
    state = begin(context, optimizer, pool, jax.random.key(0))
    still = replace(context, rule=Polynomial(terms=("pre",), initial={"pre": 0.0}))
    same = begin(still, optimizer, pool, jax.random.key(0))
    np.testing.assert_allclose(state.rollback.typical.loss, same.rollback.typical.loss, rtol=1e-6)
    assert 0.5 < float(state.rollback.typical.loss) < 2
    windowed = begin(context, replace(optimizer, estimator=Truncated()), pool, jax.random.key(0))
    assert np.isnan(windowed.rollback.typical.loss)
