"""Which training tasks are met."""

import jax

from metarule.meta.training_tasks import task_index

KEY = jax.random.key(0)


def test_training_tasks_are_all_or_a_few_in_turn():
    indices = [int(task_index(3, 2, step, number, KEY)) for step in range(3) for number in range(2)]
    assert indices == [0, 1, 2, 0, 1, 2]
    drawn = {int(task_index("all", 8, 0, 0, jax.random.key(seed))) % 8 for seed in range(60)}
    assert drawn == set(range(8))
