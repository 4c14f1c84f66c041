"""Which training tasks are met."""

from typing import Annotated, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
from msgspec import Meta

from metarule.types import Integer, PRNGKey

__all__ = ["TrainTasks", "task_index"]

TrainTasks: TypeAlias = Annotated[
    Annotated[int, Meta(ge=1)] | Literal["all"], Meta(description="how many training tasks there are")
]


def task_index(
    train_tasks: int | Literal["all"], count: int, step: Integer, number: Integer, key: PRNGKey
) -> Int[Array, ""]:
    """Number of the task that one of the lives of a meta-step meets.

    Args:
        train_tasks: `all`, drawn at random, or a number, and then these alone are met, in turn.
        count: lives of a meta-step.
        step: number of the meta-step.
        number: of the life.
        key: decides which, where they are drawn.

    Returns:
        Number of the task in the training pool.
    """
    if train_tasks == "all":
        return jax.random.randint(key, (), 0, jnp.iinfo(jnp.int32).max)
    return jnp.asarray((step * count + number) % train_tasks)
