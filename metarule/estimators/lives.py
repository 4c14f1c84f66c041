"""The meta-loss of a whole life or of a stretch of it, as every estimator takes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from metarule.abreast import block_size
from metarule.scans import loop
from metarule.types import Carry, Estimator, Integer, Learner, Life, Metrics, PRNGKey, ScanFn, Theta

__all__ = ["Ongoing", "at_once", "is_over", "renewed", "stretch", "waiting", "whole"]


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


def at_once(estimator: Estimator, learner: Learner, carry: Any) -> int:
    """Lives whose θ-gradients are best found side by side on one device.

    Args:
        estimator: that finds them; it says by `touched` what it goes over at each presentation, unless that is `carry`.
        learner: who lives.
        carry: shapes of the state of one life.

    Returns:
        Their number, at most.
    """
    touched = getattr(estimator, "touched", lambda learner, carry: carry)
    return block_size(touched(learner, carry))


def stretch(
    learner: Learner,
    theta: Theta,
    life: Life,
    carry: Carry,
    start: Integer,
    length: int,
    scan: ScanFn = loop,
) -> tuple[Float[Array, ""], tuple[Carry, Metrics]]:
    """The meta-loss that falls on a stretch of a life.

    Σ_t loss_t over the stretch, and the assessment's loss where the life ends with it

    Stretches that follow one another sum to the meta-loss of the whole life. The losses are summed on the way, so that
    nothing is stored over time.

    Args:
        learner: who lives.
        theta: θ.
        life: constant part of the life.
        carry: state before the stretch.
        start: its first presentation, a multiple of `length`.
        length: presentations in it; the last stretch of a life is shorter where the life is no multiple of it.
        scan: runs the loop.

    Returns:
        (loss, (state after the stretch, scores of the network there)).
    """
    last = learner.presentations - 1

    def step(state: tuple[Carry, Array], time: Integer) -> tuple[tuple[Carry, Array], None]:
        carry, total = state
        carry, seen = learner.step(theta, life, carry, time)
        return (carry, total + seen.loss), None

    def step_if_alive(state: tuple[Carry, Array], time: Integer) -> tuple[tuple[Carry, Array], None]:
        after, _ = step(state, jnp.minimum(time, last))
        return jax.tree.map(lambda new, old: jnp.where(time <= last, new, old), after, state), None

    body = step if learner.presentations % length == 0 else step_if_alive
    (carry, along), _ = scan(body, (carry, jnp.zeros(())), start + jnp.arange(length))
    final, metrics = learner.assess(theta, life, carry)
    return along + jnp.where(start + length > last, final, 0.0), (carry, metrics)


def whole(
    learner: Learner, theta: Theta, task: PyTree, key: PRNGKey, scan: ScanFn = loop
) -> tuple[Float[Array, ""], Metrics]:
    """The meta-loss of one life from its birth to its assessment, and the scores at its end."""
    life, carry = learner.birth(key, task)
    loss, (_, metrics) = stretch(learner, theta, life, carry, 0, learner.presentations, scan)
    return loss, metrics


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
