"""Parts of pools: validation tasks, split off training tasks."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from metarule.prng import Purpose, run_key, stream
from metarule.protocols import HasTaskIds, TaskFamily
from metarule.tasks.pools import MixturePool
from metarule.types import Integer, Split

__all__ = ["Selected", "numbered", "shared_tasks", "split_off"]

# Tasks of a pool that are told apart; share of these that are split off, and the most of them.
_COUNTED, _SHARE, _MOST = 2**16, 5, 256
# Tasks of each pool that are compared.
_COMPARED = 64


class Selected(NamedTuple):
    """The tasks of a pool with some numbers.

    Attributes:
        pool: the pool.
        numbers: numbers of its tasks.
    """

    pool: Any
    numbers: Int[Array, " tasks"]


def numbered(pool: Any, index: Integer) -> tuple[Any, Integer]:
    """Pool of the task family, and number there, of task number `index` of a pool that may be `Selected`."""
    if isinstance(pool, Selected):
        return pool.pool, pool.numbers[index % pool.numbers.size]
    return pool, index


def split_off(tasks: Any, pool: Any, seed: int) -> tuple[Any, Any]:
    """Split a fifth of the tasks of a pool off, at most 256; tasks with one `task_id` stay together.

    Both parts are of the first 65,536 numbers of the pool. In a mixture the pool of each family is split.

    Args:
        tasks: the task family.
        pool: training tasks.
        seed: decides which tasks.

    Returns:
        (the other tasks of the pool, the tasks that were split off), both `Selected`, or mixtures of those.

    Raises:
        ValueError: a pool of one task, or a family whose numbers may repeat a task.
    """
    if isinstance(pool, MixturePool):
        parts = [split_off(family, one, seed) for family, one in zip(tasks.families, pool.pools, strict=True)]
        others, held_out = zip(*parts, strict=True)
        return MixturePool(others), MixturePool(held_out)
    if not isinstance(tasks, HasTaskIds):
        reason = "it has no task_id, by which validation tasks are told from training tasks"
        raise ValueError(f"{type(tasks).__name__} cannot be split: {reason}")
    ids, first = np.unique(np.asarray(_ids(tasks, pool)), return_inverse=True)
    if ids.size < 2:
        raise ValueError("the training pool has a single task, of which no validation tasks can be split off")
    order = jax.random.permutation(stream(run_key(seed), Purpose.VALIDATION), ids.size)
    held = np.isin(first, np.asarray(order[: min(max(ids.size // _SHARE, 1), _MOST)]))
    return Selected(pool, jnp.asarray(np.flatnonzero(~held))), Selected(pool, jnp.asarray(np.flatnonzero(held)))


def shared_tasks(tasks: TaskFamily, split: Split, seed: int) -> tuple[int, int]:
    """Count test tasks that are training tasks, among the first of both pools.

    Returns:
        (number of shared tasks, number of test tasks that were compared).
    """

    @jax.jit
    def sampled(pool: Any) -> Any:
        return jax.vmap(lambda index: tasks.sample(run_key(seed), pool, index))(jnp.arange(_COMPARED))

    arrays = ([np.asarray(leaf) for leaf in jax.tree.leaves(sampled(pool))] for pool in split)
    train, test = ({tuple(leaf[number].tobytes() for leaf in one) for number in range(_COMPARED)} for one in arrays)
    return len(train & test), _COMPARED


@partial(jax.jit, static_argnums=0)
def _ids(tasks: HasTaskIds, pool: Any) -> Int[Array, " tasks"]:
    """Id of each of the first tasks of a pool."""
    return jnp.asarray(jax.vmap(lambda index: tasks.task_id(pool, index))(jnp.arange(_COUNTED)))
