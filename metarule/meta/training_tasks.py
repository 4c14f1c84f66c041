"""Training tasks of the lifetimes of a meta-step."""

from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from msgspec import Meta

from metarule.lifetime.unroll import draw_index
from metarule.protocols import Learner
from metarule.tasks.pools import numbered
from metarule.types import Integer, PRNGKey

__all__ = ["Patience", "TrainTasks", "draw_lifetime"]

Patience: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000_000)]
TrainTasks: TypeAlias = Annotated[int, Meta(ge=1, lt=2**31)] | Literal["all"]


def draw_lifetime(
    learner: Learner,
    pool: Any,
    train_tasks: Integer | Literal["all"],
    batch_size: int,
    step: Integer,
    number: Integer,
    key: PRNGKey,
) -> tuple[Any, PRNGKey]:
    """Draw the task and the key of a lifetime of a meta-step.

    Args:
        learner: the learner.
        pool: training tasks, which may be `Selected`.
        train_tasks: `all` to draw tasks at random, or a number of tasks that are used in turn.
        batch_size: lifetimes of a meta-step.
        step: number of the meta-step.
        number: number of the lifetime.
        key: of the meta-step.

    Returns:
        (task, key of the lifetime).
    """
    index_key, task_key, lifetime_key = jax.random.split(jax.random.fold_in(key, number), 3)
    total = step * batch_size + number
    index = draw_index(index_key) if isinstance(train_tasks, str) else jnp.asarray(total % train_tasks)
    return learner.tasks.sample(task_key, *numbered(pool, index)), lifetime_key
