from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import split

from metarule.tasks import Boolean
from metarule.tasks.functions import is_separable, npn_classes
from metarule.tasks.pools import MemberPool

KEY = jax.random.key(0)


@partial(jax.jit, static_argnums=0)
def sampled(family, pool):
    return jax.vmap(lambda index: family.sample(KEY, pool, index).table)(jnp.arange(pool.members.size))


def tables_of(family, pool):
    return np.asarray(sampled(family, pool))[: int(pool.size)].astype(np.uint8)


def rows(tables):
    return {table.tobytes() for table in tables}


@pytest.mark.parametrize("split_by", ["random", "npn", "leave_one_out"])
@pytest.mark.parametrize("seed", [0, 7])
def test_training_and_test_functions_are_disjoint_and_complete(split_by, seed):
    family = Boolean(inputs=3, split_by=split_by)
    train, test = (rows(tables_of(family, pool)) for pool in split(family, seed))
    assert train
    assert test
    assert not train & test
    assert len(train | test) == 256


def test_npn_split_separates_equivalent_functions():
    family = Boolean(inputs=3, split_by="npn")
    train, test = (tables_of(family, pool) for pool in split(family, 3))
    classes = npn_classes(np.concatenate([train, test]), 3)
    train_classes, test_classes = set(classes[: len(train)]), set(classes[len(train) :])
    assert not train_classes & test_classes
    assert len(train_classes) == len(test_classes) == 7


def test_leave_one_out_holds_out_each_function_for_one_seed():
    family = Boolean(inputs=2, split_by="leave_one_out")
    held_out = [tables_of(family, split(family, seed).test) for seed in range(16)]
    assert all(len(tables) == 1 for tables in held_out)
    assert len(rows(np.concatenate(held_out))) == 16


def test_no_split_puts_every_function_into_both_pools():
    family = Boolean(inputs=2, split_by="none")
    train, test = (rows(tables_of(family, pool)) for pool in split(family, 0))
    assert train == test
    assert len(train) == 16


@pytest.mark.parametrize(("functions", "count"), [("all", 256), ("separable", 104), ("not_separable", 152)])
def test_families_are_filtered_by_separability(functions, count):
    family = Boolean(inputs=3, functions=functions)
    tables = np.concatenate([tables_of(family, pool) for pool in split(family, 0)])
    assert len(tables) == count
    expected = {"all": {True, False}, "separable": {True}, "not_separable": {False}}[functions]
    assert {is_separable(table, 3) for table in tables} == expected


@pytest.mark.parametrize("inputs", [2, 3, 5])
def test_parity_and_its_negation_change_with_every_input(inputs):
    family = Boolean(inputs=inputs, functions="parity", split_by="none")
    tables = tables_of(family, split(family, 0).test)
    assert len(rows(tables)) == len(tables) == 2
    for table in tables.reshape(2, *(2,) * inputs):
        for axis in range(inputs):
            np.testing.assert_array_equal(table, 1 - np.flip(table, axis))


def test_the_seed_of_a_split_may_be_traced():
    family = Boolean()
    splits = jax.jit(jax.vmap(family.split))(jnp.arange(3))
    for seed in range(3):
        np.testing.assert_array_equal(splits.train.members[seed], family.split(seed).train.members)
    assert not np.array_equal(splits.train.members[0], splits.train.members[1])


def test_each_pass_has_every_pattern_with_its_target():
    family = Boolean()
    task = family.sample(KEY, split(family, 0).train, 5)
    stimuli = [jax.tree.map(np.asarray, family.stimulus(task, t, KEY)) for t in range(16)]
    patterns = np.array([(np.asarray(s.input) + 1) @ [2, 1, 0.5] for s in stimuli]).astype(int)
    assert sorted(patterns[:8]) == sorted(patterns[8:]) == list(range(8))
    assert list(patterns[:8]) != list(patterns[8:])
    for pattern, stimulus in zip(patterns, stimuli):
        assert stimulus.target == task.table[pattern]


def test_solved_requires_every_pattern():
    family = Boolean(inputs=2)
    target = jnp.array([[0.0], [1.0], [1.0], [0.0]])
    right = family.metrics(jnp.array([[0.4], [0.6], [0.9], [0.1]]), target)
    wrong = family.metrics(jnp.array([[0.6], [0.6], [0.9], [0.1]]), target)
    assert (right["solved"], right["accuracy"]) == (1, 1)
    assert (wrong["solved"], wrong["accuracy"]) == (0, 0.75)


def test_functions_of_many_inputs_are_sampled():
    family = Boolean(inputs=6, sampled=64)
    train, test = (rows(tables_of(family, pool)) for pool in split(family, 0))
    assert len(train | test) == 64
    assert not train & test


def test_a_pool_has_its_share_of_the_functions():
    family = Boolean(inputs=3, test_fraction=0.25)
    numbers = jnp.arange(300)
    ids = [jax.vmap(partial(family.task_id, pool))(numbers) for pool in split(family, 0)]
    assert [np.unique(one).size for one in ids] == [192, 64]


def test_task_numbers_are_modulo_the_size_of_the_pool():
    pool = MemberPool(members=jnp.array([4, 7, 1, 2]), size=jnp.array(3))
    assert [int(Boolean().task_id(pool, index)) for index in (*range(7), 12345)] == [4, 7, 1, 4, 7, 1, 4, 4]


def test_a_split_keeps_the_order_of_the_functions():
    members, (train, test) = split(Boolean(split_by="none"), 0).train.members, split(Boolean(), 0)
    held_out = int(test.size)
    np.testing.assert_array_equal(test.members, members)
    np.testing.assert_array_equal(train.members[: int(train.size)], members[held_out:])
