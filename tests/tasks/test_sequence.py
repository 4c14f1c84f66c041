from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import assert_meta_loss_is_compiled
from small import split

from metarule import Feedforward, InnerLoop, Lifetime, Polynomial, Recurrent, SymbolSequence
from metarule.tasks.sequence import SequenceTask

KEY = jax.random.key(1)
FAMILY = SymbolSequence(symbols=4, length=3)
TASK = SequenceTask(jnp.array([2, 0, 3], jnp.int32))


@partial(jax.jit, static_argnums=(0, 2))
def played(family, outputs, steps=7):
    """Stimuli, reactions and scores of the cycle 2 0 3, with given outputs at each step."""

    def step(state, t):
        sensed = family.sense(TASK, state, family.stimulus(TASK, t, KEY))
        reaction = family.react(TASK, state, outputs[t], KEY)
        return reaction.state, (sensed, reaction._replace(state=()), family.scores(TASK, reaction.state))

    return jax.lax.scan(step, family.start(TASK), jnp.arange(steps))[1]


def test_the_target_is_the_next_symbol_of_the_cycle():
    symbols = [2, 0, 3, 2, 0, 3, 2, 0]
    outputs = jnp.full((7, 4), 0.2).at[jnp.arange(7), jnp.array(symbols[1:])].set(0.4)
    sensed, reactions, scores = played(FAMILY, outputs)
    np.testing.assert_array_equal(sensed.input, np.eye(4)[symbols[:-1]])
    np.testing.assert_array_equal(sensed.target, np.eye(4)[symbols[1:]])
    np.testing.assert_array_equal(reactions.target, sensed.target)
    np.testing.assert_array_equal(reactions.reward, 1)
    np.testing.assert_allclose(reactions.loss, -np.log(0.4), rtol=1e-6)
    np.testing.assert_array_equal(scores["accuracy"], 1)


def test_accuracy_is_over_the_last_cycle_and_over_all_predictions():
    # Symbol 0 is right at steps 0, 3 and 6.
    _, reactions, scores = played(FAMILY, jnp.tile(jnp.array([[0.4, 0.3, 0.2, 0.1]]), (7, 1)))
    np.testing.assert_array_equal(reactions.reward, [1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_allclose(reactions.loss, -np.log([0.4, 0.1, 0.2, 0.4, 0.1, 0.2, 0.4]), rtol=1e-6)
    accuracy = [1, 1 / 2, 1 / 3, 5 / 9, 10 / 27, 20 / 81, 121 / 243]
    np.testing.assert_allclose(scores["accuracy"], accuracy, rtol=1e-6)
    np.testing.assert_allclose(scores["mean_accuracy"], [1, 1 / 2, 1 / 3, 1 / 2, 2 / 5, 1 / 3, 3 / 7], rtol=1e-6)


def test_equally_probable_symbols_are_no_prediction():
    _, reactions, _ = played(FAMILY, jnp.full((7, 4), 0.25))
    np.testing.assert_array_equal(reactions.reward, 0)


@partial(jax.jit, static_argnums=(0, 2))
def cycles(family, pool, tasks, key=KEY):
    return jax.vmap(lambda index: family.sample(key, pool, index).cycle)(jnp.arange(tasks))


def forms(rows):
    """Cycles by their rotation with the smallest numbers."""
    return {min(tuple(np.roll(row, shift).tolist()) for shift in range(len(row))) for row in rows}


@pytest.mark.parametrize(
    ("family", "count"),
    [
        (SymbolSequence(), 120),
        (SymbolSequence(symbols=4, length=3), 8),
        (SymbolSequence(symbols=2, length=6, distinct=False), 9),
        (SymbolSequence(symbols=2, length=13, distinct=False), 630),
        (SymbolSequence(symbols=8, length=6), 1024),
        (SymbolSequence(symbols=9, length=9), 1024),
        (SymbolSequence(symbols=3, length=11, distinct=False), 1024),
    ],
    ids=repr,
)
def test_no_cycle_is_a_rotation_of_another_or_repeats_a_shorter_one(family, count):
    pools = split(family, 3)
    train, test = (np.asarray(cycles(family, pool, int(pool.size))) for pool in pools)
    assert not forms(train) & forms(test)
    assert len(forms(np.concatenate([train, test]))) == len(train) + len(test) == count
    assert len(test) == count // 2
    for row in np.concatenate([train, test]):
        assert all(np.any(row != np.roll(row, shift)) for shift in range(1, family.length))
        assert np.unique(row).size == family.length or not family.distinct
        assert 0 <= row.min() <= row.max() < family.symbols


def test_a_pool_has_its_share_of_the_cycles_and_the_seed_decides_which():
    family = SymbolSequence(test_fraction=0.25)
    pools = [split(family, seed).test for seed in (0, 1)]
    assert [int(pool.size) for pool in pools] == [30, 30]
    one, other = (forms(np.asarray(cycles(family, pool, 30))) for pool in pools)
    assert one != other
    assert [int(family.task_id(pools[0], index)) for index in (0, 30)] == [int(pools[0].members[0])] * 2


def test_the_key_decides_the_start():
    family = SymbolSequence()
    pool = split(family, 0).train
    rows = np.asarray(jax.vmap(lambda key: cycles(family, pool, 1, key)[0])(jax.random.split(KEY, 600)))
    assert len(forms(rows)) == 1
    np.testing.assert_allclose(np.bincount(rows[:, 0]), 100, atol=4 * (600 * 5 / 36) ** 0.5)


@pytest.mark.parametrize(
    "circuit",
    [Feedforward(hidden=(), output="softmax"), Recurrent(neurons=2, output="softmax")],
    ids=["feedforward", "recurrent"],
)
def test_a_lifetime_is_compiled_and_has_the_gradient_of_the_scan(circuit):
    rule = Polynomial(terms=("pre*post", "pre*modulator", "weight"), initial_spread=0.5)
    inner = InnerLoop(steps=30, online_loss_weight=1)
    learner = Lifetime(rule=rule, circuit=circuit, tasks=SymbolSequence(symbols=4, length=4), inner_loop=inner)
    assert_meta_loss_is_compiled(learner)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": 7}, "length = 7: a cycle has each of 6 symbols at most once; allowed: 2 to 6, or distinct = false"),
        ({"symbols": 2, "length": 2}, "symbols = 2: there is only one cycle of length 2; allowed: 3 to 26"),
        ({"symbols": 2, "length": 2, "distinct": False}, "symbols = 2: there is only one cycle"),
        ({"symbols": 27}, "symbols"),
        ({"test_fraction": 1.0}, "test_fraction"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SymbolSequence(**fields)
