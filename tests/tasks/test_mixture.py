from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import assert_lifetimes_are_compiled
from small import split

from metarule import Boolean, Feedforward, InnerLoop, Lifetime, Mixture, Points, Polynomial, Tabular
from metarule.tasks.subsets import split_off

KEY = jax.random.key(0)
FAMILIES = Boolean(inputs=2), Boolean(inputs=3), Points(train_examples=3, test_examples=3)
MIXTURE = Mixture(families=FAMILIES)
ROWS = 24  # the least common multiple of 4, 8 and 6 examples


@partial(jax.jit, static_argnums=0)
def shown(family, pool, index):
    """Stimuli of some steps of a task, and its examples."""
    task = family.sample(KEY, pool, index)
    return jax.vmap(lambda t: family.stimulus(task, t, KEY))(jnp.arange(10)), family.examples(task)


@partial(jax.jit, static_argnums=0)
def ids(tasks, pool):
    return jax.vmap(lambda index: tasks.task_id(pool, index))(jnp.arange(60_000))


@pytest.mark.parametrize("index", [0, 7, 11])
@pytest.mark.parametrize("pool", ["train", "test"])
def test_a_task_is_that_of_its_family_with_zeros_for_the_inputs_that_it_lacks(pool, index):
    family = FAMILIES[index % 3]
    alone = shown(family, getattr(split(family, 5), pool), index // 3)
    stimuli, examples = shown(MIXTURE, getattr(split(MIXTURE, 5), pool), index)
    for (found, wanted), times in zip(zip((stimuli, examples), alone), (1, ROWS // alone[1].input.shape[0])):
        np.testing.assert_array_equal(found.input[:, : family.inputs], np.tile(wanted.input, (times, 1)))
        np.testing.assert_array_equal(found.input[:, family.inputs :], 0)
        np.testing.assert_array_equal(found.target, np.tile(wanted.target, (times, 1)))
    assert examples.input.shape == (ROWS, 3)


def test_families_take_turns_and_their_tasks_have_different_ids():
    found = np.asarray(ids(MIXTURE, split(MIXTURE, 0).train)).reshape(-1, 3)
    assert [len(set(each)) for each in found.T] == [8, 128, 20_000]
    assert len(set(found.ravel())) == 8 + 128 + 20_000


def test_a_family_that_is_listed_twice_has_the_same_tasks_twice():
    twice = Mixture(families=(FAMILIES[0], FAMILIES[0], FAMILIES[1]))
    found = np.asarray(ids(twice, split(twice, 0).train)).reshape(-1, 3)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


def test_a_fifth_of_each_family_is_split_off_for_validation():
    parts = split_off(MIXTURE, split(MIXTURE, 0).train, seed=0)
    train, validation = (np.asarray(ids(MIXTURE, part)).reshape(-1, 3) for part in parts)
    assert not set(train.ravel()) & set(validation.ravel())
    assert [len(set(each)) for each in validation.T] == [1, 25, 256]
    assert [len(set(each)) for each in train.T][:2] == [7, 103]


def test_metrics_are_those_that_all_families_share():
    outputs, targets = jnp.array([[0.9], [0.4]]), jnp.ones((2, 1))
    assert list(MIXTURE.metrics(outputs, targets)) == ["accuracy"]
    assert MIXTURE.metrics(outputs, targets)["accuracy"] == 0.5
    functions = Mixture(families=FAMILIES[:2])
    assert (MIXTURE.primary_metric, functions.primary_metric) == ("accuracy", "solved")
    assert (MIXTURE.round_steps, functions.round_steps) == (0, 0)
    data = [Tabular(dataset=name, test_classes="all", test_examples=4) for name in ("iris", "wine")]
    assert Mixture(families=data).round_steps == 3
    assert Mixture(families=data).inputs == 13


def test_lifetimes_are_compiled():
    learner = Lifetime(
        rule=Polynomial(terms=("delta",), initial={"delta": 0.1}),
        circuit=Feedforward(hidden=()),
        tasks=MIXTURE,
        inner_loop=InnerLoop(steps=10, online_loss_weight=0.5),
    )
    assert_lifetimes_are_compiled(learner)


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ((Boolean(),), "families = .*length >= 2"),
        ((Boolean(), Tabular()), "families: outputs = 1, 3; allowed: the same for all"),
        ((Boolean(), Boolean(split_by="npn")), "families: 0 and 1 share tasks and are split differently"),
        ((Points(), Tabular(ways=2), Tabular(test_classes=3, ways=2)), "outputs"),
        ((Tabular(), Tabular(test_classes=3)), "families: 0 and 1 share tasks and are split differently"),
        ((Boolean(inputs=10), Points()), "numbers of test examples, 1024, 100, have the common multiple 25600"),
    ],
)
def test_families_that_do_not_fit_together_are_refused(families, message):
    with pytest.raises(ValueError, match=message):
        Mixture(families=families)


def test_families_with_one_split_of_the_same_data_are_allowed():
    assert Mixture(families=(Tabular(), Tabular(scaling="standardised"))).inputs == 64
