"""A lifetime that goes on from one meta-step to the next, for estimators that see a window of it at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from metarule.types import Carry, Learner, Life, PRNGKey

__all__ = ["Ongoing", "is_over", "renewed", "waiting"]


class Ongoing(NamedTuple):
    """A life that goes on from one meta-step to the next.

    Attributes:
        life: its constant part.
        carry: state before the next presentation; it may have leading axes, one network each.
        time: number of the next presentation; where it is beyond the last one, the life is over.
        start: first presentation of the life after this one.
    """

    life: Life
    carry: Carry
    time: Int[Array, ""]
    start: Int[Array, ""]


def waiting(learner: Learner, window: int, staggered: bool, key: PRNGKey, copies: tuple[int, ...] = ()) -> Ongoing:
    """What there is before the first life: one that is over.

    It has the shape of a life and is never lived, for the task of it is not the pool's.

    Args:
        learner: who will live.
        window: presentations lived in a meta-step.
        staggered: let the first life begin at a window drawn at random.
        key: decides which.
        copies: leading axes of the carry.

    Returns:
        A life that is over.
    """
    task = learner.tasks.sample(key, learner.tasks.split(0).train, 0)
    life, carry = learner.birth(key, task)
    windows = -(-learner.presentations // window) if staggered else 1
    start = window * jax.random.randint(key, (), 0, windows, int)
    return Ongoing(life, _copied(carry, copies), jnp.asarray(learner.presentations, start.dtype), start)


def is_over(learner: Learner, ongoing: Ongoing) -> Bool[Array, ""]:
    """Whether the life has come to its end, or to nothing: what diverged stays so."""
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(ongoing.carry)]
    return (ongoing.time >= learner.presentations) | ~jnp.all(jnp.stack(finite))


def renewed(learner: Learner, ongoing: Ongoing, task: PyTree, key: PRNGKey, copies: tuple[int, ...] = ()) -> Ongoing:
    """The life as it is, or a new one where it is over.

    Args:
        learner: who lives.
        ongoing: the life so far.
        task: what a new life is lived through.
        key: decides the fresh weights of a new life.
        copies: leading axes of the carry.

    Returns:
        A life that is not over.
    """
    life, carry = learner.birth(key, task)
    new = Ongoing(life, _copied(carry, copies), ongoing.start, jnp.zeros_like(ongoing.start))
    return jax.tree.map(lambda new, old: jnp.where(is_over(learner, ongoing), new, old), new, ongoing)


def _copied(carry: Carry, copies: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*copies, *leaf.shape)), carry)
