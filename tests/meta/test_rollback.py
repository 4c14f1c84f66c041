"""Bad steps are rejected, and training never gets stuck."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace

from metarule import Boolean, Feedforward, Gradient, InnerLoop, Lifetime, Persistent, Polynomial, Truncated
from metarule.meta import begin, train
from metarule.meta.rollback import BatchSummary, Iterate, Rollback, Shrinkage

ROLLBACK = Rollback(diverged=0.1, useless=0.5, jump=8.0)
START = Iterate(jnp.array([8.0]), jnp.zeros(()))


@partial(jax.jit, static_argnames="rollback")
def moved(state, present, loss, diverged, frozen, rollback=ROLLBACK):
    """One meta-step whose optimiser would add 1 to θ, and counts."""
    proposed = Iterate(present.theta + state.scale, present.optimizer + 1)
    loss, diverged, frozen = (jnp.asarray(value, float) for value in (loss, diverged, frozen))
    return rollback.move(state, present, proposed, BatchSummary(loss, jnp.asarray(0.1), diverged, diverged + frozen))


def steps(*batches, rollback=ROLLBACK):
    """Iterates after meta-steps of some (loss, share of diverged lifetimes, share with zero gradient)."""
    iterate, state = START, rollback.init(START)
    for loss, diverged, frozen in batches:
        iterate, state, rejected = moved(state, iterate, loss, diverged, frozen, rollback)
        yield float(iterate.theta[0]), float(iterate.optimizer), float(state.scale), bool(rejected)


GOOD, DIVERGED, FROZEN = (1.0, 0.0, 0.0), (np.nan, 1.0, 0.0), (1.0, 0.0, 0.6)


def test_accepted_steps_are_those_of_the_optimiser():
    iterates = list(steps(GOOD, (1.7, 0.0, 0.49), (1.1, 0.09, 0.0)))
    assert iterates == [(9, 1, 1, False), (10, 2, 1, False), (11, 3, 1, False)]


@pytest.mark.parametrize(
    "bad",
    [DIVERGED, FROZEN, (1.0, 0.1, 0.0), (1.9, 0.0, 0.0)],
    ids=["diverged", "frozen", "some diverged", "the loss jumps"],
)
def test_a_bad_step_is_rejected_and_the_next_ones_are_shorter(bad):
    *_, before, after, last = steps(GOOD, GOOD, bad, GOOD)
    assert before == (10, 2, 1, False)
    # θ = 9 was good, and the step from there led to 10.
    assert after == (9, 1, 0.5, True)
    assert last == (9.5, 2, pytest.approx(0.5 * 2 ** (1 / 8)), False)


def test_accepted_steps_lengthen_to_those_of_the_optimiser():
    scales = [scale for _, _, scale, _ in steps(GOOD, GOOD, DIVERGED, *[GOOD] * 10)]
    np.testing.assert_allclose(scales[2:], [min(1, 0.5 * 2 ** (n / 8)) for n in range(11)], rtol=1e-6)


def test_a_good_theta_whose_lifetimes_diverge_later_shrinks_a_little():
    losses = [(loss, 0.0, 0.0) for loss in (3.0, 1.0, 2.0, 2.0)]
    *tried, start, after = steps(GOOD, DIVERGED, DIVERGED, *losses, GOOD)
    # θ = 8 was good; the loss is lowest at 0.7² of it.
    np.testing.assert_allclose([theta for theta, *_ in tried], [9, 8, *(8 * 0.7**n for n in range(1, 5))], rtol=1e-6)
    assert start == (pytest.approx(8 * 0.7**2), 0, 0.5, True)
    assert after == (pytest.approx(8 * 0.7**2 + 0.5), 1, pytest.approx(0.5 * 2 ** (1 / 8)), False)


def test_a_good_theta_shrinks_anew_and_useless_smaller_ones_do_not_count():
    first = [(loss, 0.0, 0.0) for loss in (1.0, 2.0, 2.0, 2.0)]
    second = [(5.0, 0.0, 0.0), DIVERGED, (4.0, 0.0, 0.0), (6.0, 0.0, 0.0), (7.0, 0.0, 0.0)]
    *_, (start, _, scale, rejected) = steps(
        GOOD, DIVERGED, DIVERGED, *first, GOOD, DIVERGED, DIVERGED, DIVERGED, *second
    )
    # From 8 to 0.7 of it; then useless at once and at the first factor, and the best of four at the fourth.
    assert (start, scale, rejected) == (pytest.approx(8 * 0.7 * 0.7**4), pytest.approx(0.25, rel=0.1), True)


def test_a_good_theta_is_kept_if_smaller_ones_do_not_help():
    sick = (1.0, 0.2, 0.0)
    thetas = [theta for theta, *_ in steps(GOOD, *[sick] * 22)]
    np.testing.assert_allclose(thetas[1:19], [8, *(8 * 0.7**n for n in range(1, 17)), 8], rtol=1e-6)
    # Then the step after a rollback is accepted: 8.5 is rejected, and the next step is shorter.
    np.testing.assert_allclose(thetas[19:], [8.5, 8, 8.25, 8], rtol=1e-6)


def test_without_comparable_losses_the_step_after_a_rollback_is_accepted_whatever_the_lifetimes():
    assert list(steps(GOOD, DIVERGED, DIVERGED, GOOD, rollback=replace(ROLLBACK, jump=np.inf))) == [
        (9, 1, 1, False),
        (8, 0, 0.5, True),
        (8.5, 1, 0.5, False),
        (9, 2, pytest.approx(0.5 * 2 ** (1 / 8)), False),
    ]


def test_a_useless_initial_theta_shrinks_and_steps_keep_their_length():
    losses = [5.0, 6.0, 3.0, 1.0, 1.5, 2.0, 2.0, 2.0]
    *tried, start, after = steps(DIVERGED, DIVERGED, *[(loss, 0.0, 0.0) for loss in losses], GOOD)
    # The first useful θ is 8/4²; at 8/4⁵ the loss is lowest.
    assert [theta for theta, *_ in tried] == [8 / 4**n for n in range(1, 10)]
    assert start == (8 / 4**5, 0, 1, True)
    assert after == (8 / 4**5 + 1, 1, 1, False)


def test_a_smaller_theta_whose_lifetimes_are_useless_does_not_count():
    useful = [(1.0 + number, 0.0, 0.0) for number in range(8)]
    *_, (theta, *_) = steps(DIVERGED, useful[0], DIVERGED, *useful[1:])
    assert theta == 8 / 4


def test_a_loss_that_is_as_high_under_the_last_good_theta_becomes_typical():
    iterates = list(steps(*[GOOD] * 5, *[(5.0, 0.0, 0.0)] * 20))
    assert [rejected for *_, rejected in iterates] == [False] * 5 + [True] + [False] * 19
    assert iterates[5][0] == 12


def test_a_loss_that_creeps_up_is_noticed():
    rejected = [step[3] for step in steps(*[GOOD] * 30, *[(1.0 + 0.03 * number, 0.0, 0.0) for number in range(60)])]
    assert any(rejected[30:])


LEARNER = Lifetime(
    rule=Polynomial(terms=("pre*modulator", "weight*pre"), initial={"pre*modulator": 1e9, "weight*pre": 1e9}),
    circuit=Feedforward(hidden=(4,)),
    tasks=Boolean(inputs=2),
    inner_loop=InnerLoop(steps=50, weight_bound=1e6),
)


@pytest.mark.parametrize(
    ("initial", "bound"),
    [(1e9, 1e6), (1e9, 2.0), (30.0, 2.0)],
    ids=["no gradient, wide bounds", "no gradient", "worse than zero theta"],
)
def test_training_recovers_from_a_theta_under_which_lifetimes_are_useless(initial, bound):
    rule = replace(LEARNER.rule, initial={"pre*modulator": initial, "weight*pre": initial})
    learner = replace(LEARNER, rule=rule, inner_loop=replace(LEARNER.inner_loop, weight_bound=bound))
    optimizer = Gradient(steps=60, batch_size=16, learning_rate=3e-2)
    pool = learner.tasks.split(0).train
    theta, infos = jax.jit(lambda key: train(learner, optimizer, pool, key))(jax.random.key(0))
    assert bool(infos.rejected[0])
    assert not np.any(infos.rejected[-10:])
    assert np.isfinite(theta).all()
    assert infos.loss[-10:].mean() < 0.6


WINDOWED = replace(
    LEARNER,
    rule=Polynomial(terms=("seven",), initial={"pre*modulator": 0.2}),
    inner_loop=InnerLoop(steps=40, online_loss_weight=0.0),
)


@pytest.mark.parametrize(
    ("estimator", "batch_size"),
    [
        (Truncated(window=10, staggered=False), 1),
        (Truncated(window=10, staggered=False), 8),
        (Persistent(window=10, staggered=False), 8),
    ],
)
def test_differences_between_windows_are_no_jumps(estimator, batch_size):
    optimizer = Gradient(steps=12, batch_size=batch_size, estimator=estimator)
    pool = WINDOWED.tasks.split(0).train
    theta, infos = jax.jit(lambda key: train(WINDOWED, optimizer, pool, key))(jax.random.key(0))
    assert not np.any(infos.rejected)
    assert not np.array_equal(theta, WINDOWED.init_theta(jax.random.key(0)))


def test_a_lifetime_that_diverged_is_replaced_in_the_next_window():
    optimizer = Gradient(steps=12, batch_size=8, estimator=Truncated(window=10))
    pool, key = WINDOWED.tasks.split(0).train, jax.random.key(0)
    step = jax.jit(lambda state: optimizer.step(WINDOWED, pool, state, key))
    state, _ = step(begin(WINDOWED, optimizer, pool, key))
    lifetimes = state.estimator
    diverged = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), lifetimes.state)
    _, info = step(state._replace(estimator=lifetimes._replace(state=diverged)))
    assert int(info.nonfinite_lifetimes) == 0


def test_decays_and_learned_initial_weights_do_not_shrink():
    rule = {"coefficients": jnp.array([8.0]), "logit_decay": jnp.array([4.6])}
    start = Iterate({"rule": rule, "initial": {"weights_0": jnp.array([[3.0]])}}, jnp.zeros(()))
    diverged = BatchSummary(jnp.asarray(jnp.nan), jnp.asarray(jnp.nan), jnp.asarray(1.0), jnp.asarray(1.0))
    after, _, rejected = ROLLBACK.move(ROLLBACK.init(start), start, start, diverged)
    assert bool(rejected)
    np.testing.assert_array_equal(after.theta["rule"]["coefficients"], [2.0])
    np.testing.assert_array_equal(after.theta["rule"]["logit_decay"], rule["logit_decay"])
    np.testing.assert_array_equal(after.theta["initial"]["weights_0"], [[3.0]])


def test_the_typical_loss_of_short_lifetimes_is_forgotten_where_they_get_longer():
    state = ROLLBACK.init(START)
    for _ in range(5):
        iterate, state, _ = moved(state, START, *GOOD)
    assert bool(moved(state, iterate, 5.0, 0.0, 0.0)[2])
    for now in (True, False):
        assert bool(moved(ROLLBACK.forget_typical(state, jnp.asarray(now)), iterate, 5.0, 0.0, 0.0)[2]) is not now
    shrinking = state._replace(shrinkage=Shrinkage(*map(jnp.asarray, (3, 2, 0.5, 2))))
    longer = ROLLBACK.forget_typical(shrinking, jnp.asarray(True)).shrinkage
    assert [float(number) for number in longer] == [3, 0, np.inf, 0]


def test_an_initial_theta_that_is_far_worse_than_zero_shrinks():
    idle = BatchSummary(jnp.asarray(0.7), jnp.asarray(0.1), jnp.zeros(()), jnp.zeros(()))
    for loss, shrinks in ((4.0, True), (1.1, False)):
        iterate, _, rejected = moved(ROLLBACK.init(START, idle), START, loss, 0.0, 0.0)
        assert bool(rejected) == shrinks
        assert float(iterate.theta[0]) == (2.0 if shrinks else 9.0)


def test_the_initial_typical_loss_is_that_of_weights_that_do_not_change():
    learner = replace(LEARNER, inner_loop=InnerLoop(steps=20, online_loss_weight=0.3))
    optimizer, pool = Gradient(batch_size=4), learner.tasks.split(0).train
    state = begin(learner, optimizer, pool, jax.random.key(0))
    unchanging = replace(learner, rule=Polynomial(terms=("pre",), initial={"pre": 0.0}))
    expected = begin(unchanging, optimizer, pool, jax.random.key(0))
    np.testing.assert_allclose(state.rollback.typical.loss, expected.rollback.typical.loss, rtol=1e-6)
    assert 0.5 < float(state.rollback.typical.loss) < 2
    windowed = begin(learner, replace(optimizer, estimator=Truncated()), pool, jax.random.key(0))
    assert np.isnan(windowed.rollback.typical.loss)
