"""Training tasks of the lifetimes of a meta-step."""

import jax
from quadratic import Quadratic, Tasks

from metarule.meta.training_tasks import draw_lifetime


class Numbers(Tasks):
    """Tasks that are their numbers."""

    def sample(self, key, pool, index):
        return int(index)


def test_training_tasks_are_all_or_a_few_in_turn():
    learner = Quadratic(tasks=Numbers())
    drawn = lambda *settings, seed=0: draw_lifetime(learner, (), *settings, jax.random.key(seed))[0]
    assert [drawn(3, 2, step, number) for step in range(3) for number in range(2)] == [0, 1, 2, 0, 1, 2]
    assert {drawn("all", 8, 0, 0, seed=seed) % 8 for seed in range(60)} == set(range(8))
