import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Bandit, Boolean, Navigation, Points, Tabular
from metarule.tasks.base import task_id
from metarule.tasks.subsets import Selected, numbered, split_off


@pytest.mark.parametrize(
    ("tasks", "most"),
    [
        (Boolean(inputs=3), 25),
        (Points(), 256),
        (Tabular(ways=3, test_classes=4), 4),
        (Navigation(), 3),
        (Bandit(), 256),
    ],
)
def test_no_validation_task_is_a_training_task(tasks, most):
    pool = tasks.split(0).train
    ids = [
        {
            int(one)
            for one in jax.vmap(lambda index, part=part: task_id(tasks, *numbered(part, index)))(jnp.arange(9999))
        }
        for part in split_off(tasks, pool, seed=0)
    ]
    assert not ids[0] & ids[1]
    assert len(ids[1]) == most
    assert len(ids[0]) >= 4 * most


def test_the_seed_decides_which_tasks_are_split_off():
    pool = Boolean(inputs=3).split(0).train
    numbers = [np.asarray(split_off(Boolean(inputs=3), pool, seed)[1].numbers)[:8].tolist() for seed in (0, 0, 1)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_numbers_of_a_whole_pool_are_kept_and_those_of_a_part_repeat():
    pool = jnp.arange(5)
    assert numbered(pool, 7) == (pool, 7)
    part = Selected(pool, jnp.array([4, 2]))
    assert [int(numbered(part, index)[1]) for index in (0, 1, 2)] == [4, 2, 4]
    assert numbered(part, 0)[0] is pool


def test_a_pool_of_one_task_cannot_be_split():
    class One(Boolean, frozen=True, kw_only=True, tag="one"):
        def task_id(self, pool, index):
            return 0 * index

    with pytest.raises(ValueError, match="the training pool has a single task, of which no validation tasks"):
        split_off(One(), One().split(0).train, seed=0)
