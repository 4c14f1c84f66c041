from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import assert_meta_loss_is_compiled
from small import split

from metarule import Feedforward, InnerLoop, Lifetime, Memory, Polynomial, Recurrent

KEY = jax.random.key(1)
MATCH = Memory(features=5, items=3, delays=(2, 4), pause=2)
N_BACK = Memory(task="n_back", features=5, items=3, n=3)


def always_yes(family, seen):
    return 1.0


def perfect(family, seen):
    """Probability of a match by the inputs of the present and earlier steps, the latest last."""
    features, cues = seen[:, :-2], seen[:, -2:]
    if family.task == "n_back":
        return jnp.all(features[-1] == features[-1 - family.n]).astype(float)
    samples = features[-1 - 1 - family.delays[1] : -1]
    is_sample = cues[-1 - 1 - family.delays[1] : -1, 0] == 1
    return jnp.any(is_sample & jnp.all(samples == features[-1][None], axis=1)).astype(float)


def wrong(family, seen):
    return 1 - perfect(family, seen)


@partial(jax.jit, static_argnums=(0, 1, 2))
def played(family, network, steps):
    """States, inputs, reactions and scores of a task in which a function of recent inputs answers."""
    task = family.sample(KEY, family.split(0).train, 3)

    def step(carry, t):
        state, seen = carry
        sensed = family.sense(task, state, family.stimulus(task, t, KEY))
        seen = jnp.concatenate([seen[1:], sensed.input[None]])
        output = jnp.full(1, network(family, seen))
        reaction = family.react(task, state, output, jax.random.fold_in(KEY, t))
        after = (state, sensed.input, reaction._replace(state=()), family.scores(task, reaction.state))
        return (reaction.state, seen), after

    return jax.lax.scan(step, (family.start(task), jnp.zeros((8, family.inputs))), jnp.arange(steps))[1]


@pytest.mark.parametrize("family", [MATCH, N_BACK], ids=["match", "n_back"])
def test_a_perfect_network_has_accuracy_1_and_one_that_says_yes_is_right_in_half(family):
    steps = 6000
    for network, accuracy in ((perfect, 1), (wrong, 0), (always_yes, 0.5)):
        *_, reactions, scores = played(family, network, steps)
        answers = float(scores["answers"][-1])
        assert answers == pytest.approx(steps / family.steps_per_answer, rel=0.02)
        # Four standard errors of a share of ½.
        assert float(scores["mean_accuracy"][-1]) == pytest.approx(accuracy, abs=2 / answers**0.5 * (accuracy == 0.5))
        assert float(jnp.sum(reactions.reward)) == pytest.approx(answers * float(scores["mean_accuracy"][-1]))
        if accuracy != 0.5:
            assert float(scores["accuracy"][-1]) == accuracy


def test_a_trial_is_a_sample_a_delay_a_test_and_a_pause():
    states, inputs, reactions, _ = jax.tree.map(np.asarray, played(MATCH, always_yes, 6000))
    trial, features, (is_sample, is_test) = states.present, inputs[:, :-2], inputs[:, -2:].T
    assert set(np.unique(inputs[:, -2:])) == {0, 1}
    np.testing.assert_array_equal(np.all(features == 0, axis=1), (is_sample == 0) & (is_test == 0))
    assert set(np.unique(features[(is_sample == 1) | (is_test == 1)])) == {-1, 1}
    samples, tests = np.flatnonzero(is_sample), np.flatnonzero(is_test)
    samples = samples[: len(tests)]
    delays = tests - samples - 1
    np.testing.assert_array_equal(delays, trial.delay[samples])
    np.testing.assert_array_equal(samples[1:] - tests[:-1] - 1, MATCH.pause)
    values, counts = np.unique(delays, return_counts=True)
    np.testing.assert_array_equal(values, [2, 3, 4])
    error = 4 * (len(delays) * 2 / 9) ** 0.5
    np.testing.assert_allclose(counts, len(delays) / 3, atol=error)
    equal = np.all(features[samples] == features[tests], axis=1)
    np.testing.assert_array_equal(reactions.target[tests, 0], equal)
    np.testing.assert_array_equal(reactions.target[is_test == 0, 0], 1)  # the output itself
    # Each of the other items is equally probable.
    others = ((trial.test - trial.sample) % 3)[tests[~equal]]
    assert set(np.unique(others)) == {1, 2}
    assert np.mean(others == 1) == pytest.approx(0.5, abs=2 / len(others) ** 0.5)


def test_targets_of_n_back_are_equality_with_the_item_n_steps_ago():
    states, inputs, reactions, _ = jax.tree.map(np.asarray, played(N_BACK, always_yes, 6000))
    n, features = N_BACK.n, inputs[:, :-2]
    np.testing.assert_array_equal(inputs[:, -2:], np.tile([[0.0, 1.0]], (6000, 1)))
    equal = np.all(features[n:] == features[:-n], axis=1)
    np.testing.assert_array_equal(reactions.target[n:, 0], equal)
    np.testing.assert_array_equal(reactions.loss[:n], 0)
    assert np.mean(equal) == pytest.approx(0.5, abs=2 / len(equal) ** 0.5)
    counts = np.bincount(states.present.items[:, -1].astype(int))
    assert counts.size == 3
    assert counts.min() > 1500


def test_the_mean_loss_is_the_mean_cross_entropy_of_an_answer():
    for family in (MATCH, N_BACK):
        *_, reactions, scores = played(family, lambda family, seen: 0.75, 6000)
        share = float(scores["mean_accuracy"][-1])
        wanted = -share * np.log(0.75) - (1 - share) * np.log(0.25)
        assert float(jnp.mean(reactions.loss)) == pytest.approx(wanted, rel=0.02)
        assert np.sum(np.asarray(reactions.loss) == 0) == 6000 - int(scores["answers"][-1])


def test_delays_change_what_is_drawn_and_nothing_else():
    short, long = Memory(), Memory(delays=(6, 10))
    one, other = (family.sample(KEY, split(family, 0).test, 2) for family in (short, long))
    np.testing.assert_array_equal(one.patterns, other.patterns)
    assert (one.first.sample, one.first.test) == (other.first.sample, other.first.test)
    assert 1 <= one.first.delay <= 5
    assert 6 <= other.first.delay <= 10
    none = Memory(delays=(0, 0), pause=0)
    _, inputs, _, scores = played(none, always_yes, 10)
    np.testing.assert_array_equal(inputs[:, -2:], np.tile([[1.0, 0.0], [0.0, 1.0]], (5, 1)))
    assert scores["answers"][-1] == 5


@partial(jax.jit, static_argnums=(0, 2))
def patterns(family, pool, tasks):
    return jax.vmap(lambda index: family.sample(KEY, pool, index).patterns)(jnp.arange(tasks))


@pytest.mark.parametrize("seed", [0, 5])
def test_training_and_test_tasks_share_no_pattern(seed):
    family = Memory(features=5, items=3)
    train, test = (np.asarray(patterns(family, pool, 200)) for pool in split(family, seed))
    sets = [{row.tobytes() for row in rows.reshape(-1, 5)} for rows in (train, test)]
    assert not sets[0] & sets[1]
    assert [len(one) for one in sets] == [16, 16]
    assert all(len({row.tobytes() for row in task}) == 3 for task in train)
    assert not np.array_equal(train[0], train[1])


def test_items_are_drawn_evenly_and_may_be_the_whole_pool():
    family = Memory(features=4, items=8)
    pool = split(family, 0).train
    assert np.unique(np.asarray(patterns(family, pool, 1))[0], axis=0).shape == (8, 4)
    tasks = 3000
    drawn = np.asarray(patterns(Memory(features=4, items=3), pool, tasks)).reshape(-1, 4)
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    np.testing.assert_allclose(counts, 3 / 8 * tasks, atol=4 * (tasks * 3 / 8 * 5 / 8) ** 0.5)


@pytest.mark.parametrize(
    ("tasks", "circuit"),
    [
        (Memory(), Recurrent(neurons=3)),
        (Memory(task="n_back"), Feedforward(hidden=())),
        pytest.param(Memory(), Feedforward(hidden=(3,)), marks=pytest.mark.long),
        pytest.param(Memory(task="n_back"), Recurrent(neurons=3), marks=pytest.mark.long),
    ],
    ids=["match, recurrent", "n-back, feedforward", "match, feedforward", "n-back, recurrent"],
)
def test_a_lifetime_is_compiled_and_has_the_gradient_of_the_scan(tasks, circuit):
    rule = Polynomial(terms=("pre*post", "pre*modulator", "weight"), initial_spread=0.5)
    learner = Lifetime(rule=rule, circuit=circuit, tasks=tasks, inner_loop=InnerLoop(steps=40, online_loss_weight=1))
    assert_meta_loss_is_compiled(learner)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"items": 9, "features": 4}, "items = 9: a pool has 8 patterns of 4 features; allowed: 2 to 8"),
        ({"delays": (3, 2)}, r"delays = \[3, 2\]; allowed: the fewest steps, then the most"),
        ({"delays": (0, 1001)}, "delays"),
        ({"delays": (1, 2, 3)}, "delays"),
        ({"n": 0}, "n"),
        ({"task": "other"}, "task"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Memory(**fields)
