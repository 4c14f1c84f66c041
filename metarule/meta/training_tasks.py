"""Which training tasks are met."""

from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
from msgspec import Meta

from metarule.types import Integer, Learner, PRNGKey

__all__ = ["TrainTasks", "draw_lifetime", "task_index"]

TrainTasks: TypeAlias = Annotated[
    Annotated[int, Meta(ge=1, lt=2**31)] | Literal["all"], Meta(description="how many training tasks there are")
]


def task_index(
    train_tasks: int | Literal["all"], count: int, step: Integer, number: Integer, key: PRNGKey
) -> Int[Array, ""]:
    """Number of the task that one of the lifetimes of a meta-step meets.

    Args:
        train_tasks: `all`, drawn at random, or a number, and then these alone are met, in turn.
        count: lives of a meta-step.
        step: number of the meta-step.
        number: of the lifetime.
        key: decides which, where they are drawn.

    Returns:
        Number of the task in the training pool.
    """
    if train_tasks == "all":
        return jax.random.randint(key, (), 0, jnp.iinfo(jnp.int32).max)
    return jnp.asarray((step * count + number) % train_tasks)


def draw_lifetime(
    learner: Learner,
    pool: Any,
    train_tasks: int | Literal["all"],
    count: int,
    step: Integer,
    number: Integer,
    key: PRNGKey,
) -> tuple[Any, PRNGKey]:
    """The task of one of the lifetimes of a meta-step, and the key of that lifetime.

    Args:
        learner: who will live.
        pool: training tasks.
        train_tasks: as of `task_index`, and so are `count`, `step` and `number`.
        count: lives of a meta-step.
        step: number of the meta-step.
        number: of the lifetime.
        key: of the meta-step; the number of the lifetime is folded in here.

    Returns:
        (task, key of the lifetime).
    """
    index_key, task_key, lifetime_key = jax.random.split(jax.random.fold_in(key, number), 3)
    index = task_index(train_tasks, count, step, number, index_key)
    return learner.tasks.sample(task_key, pool, index), lifetime_key
