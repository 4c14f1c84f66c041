"""The inner loop: a lifetime or a part of it, and its meta-loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from metarule.lifetime.scans import loop
from metarule.types import Carry, Integer, Learner, Life, Metrics, Observation, PRNGKey, ScanFn, Theta

__all__ = ["live", "stretch", "whole"]


def live(
    learner: Learner, theta: Theta, life: Life, carry: Carry, times: Int[Array, " n"], scan: ScanFn = loop
) -> tuple[Carry, Observation]:
    """Live through some presentations.

    Args:
        learner: who lives.
        theta: θ.
        life: constant part of the life; it is closed over, for a scan copies what it carries.
        carry: state before the first of the presentations.
        times: their numbers [n].
        scan: runs the loop, and decides how it is differentiated.

    Returns:
        State after the last, and what was seen of each [n, …].
    """
    return scan(lambda carry, time: learner.step(theta, life, carry, time), carry, times)


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
