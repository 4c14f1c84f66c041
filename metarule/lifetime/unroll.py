"""The inner loop: a lifetime or a part of it, and its meta-loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from metarule.lifetime.scans import loop
from metarule.types import Integer, Learner, LearnerState, LifetimeContext, Metrics, PRNGKey, ScanFn, StepOutput, Theta

__all__ = ["lifetime_loss", "segment_loss", "unroll"]


def unroll(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    learner_state: LearnerState,
    ts: Int[Array, " n"],
    scan: ScanFn = loop,
) -> tuple[LearnerState, StepOutput]:
    """Live through some steps.

    Args:
        learner: who lives.
        theta: θ.
        context: constant part of the lifetime; it is closed over, for a scan copies what it carries.
        carry: state before the first of the steps.
        times: their numbers [n].
        scan: runs the loop, and decides how it is differentiated.

    Returns:
        State after the last, and what was seen of each [n, …].
    """
    return scan(lambda learner_state, t: learner.step(theta, context, learner_state, t), learner_state, ts)


def segment_loss(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    learner_state: LearnerState,
    start: Integer,
    length: int,
    scan: ScanFn = loop,
) -> tuple[Float[Array, ""], tuple[LearnerState, Metrics]]:
    """The meta-loss that falls on a segment_loss of a lifetime.

    Σ_t loss_t over the segment_loss, and the assessment's loss where the lifetime ends with it

    Stretches that follow one another sum to the meta-loss of the whole lifetime. The losses are summed on the way, so that
    nothing is stored over time.

    Args:
        learner: who lives.
        theta: θ.
        context: constant part of the lifetime.
        carry: state before the segment_loss.
        start: its first step, a multiple of `length`.
        length: steps in it; the last segment_loss of a lifetime is shorter where the lifetime is no multiple of it.
        scan: runs the loop.

    Returns:
        (loss, (state after the segment_loss, scores of the network there)).
    """
    last = learner.steps - 1

    def step(state: tuple[LearnerState, Array], t: Integer) -> tuple[tuple[LearnerState, Array], None]:
        learner_state, total = state
        learner_state, seen = learner.step(theta, context, learner_state, t)
        return (learner_state, total + seen.loss), None

    def step_if_alive(state: tuple[LearnerState, Array], t: Integer) -> tuple[tuple[LearnerState, Array], None]:
        after, _ = step(state, jnp.minimum(t, last))
        return jax.tree.map(lambda new, old: jnp.where(t <= last, new, old), after, state), None

    body = step if learner.steps % length == 0 else step_if_alive
    (learner_state, along), _ = scan(body, (learner_state, jnp.zeros(())), start + jnp.arange(length))
    final, metrics = learner.evaluate(theta, context, learner_state)
    return along + jnp.where(start + length > last, final, 0.0), (learner_state, metrics)


def lifetime_loss(
    learner: Learner, theta: Theta, task: PyTree, key: PRNGKey, scan: ScanFn = loop
) -> tuple[Float[Array, ""], Metrics]:
    """The meta-loss of one lifetime from its birth to its assessment, and the scores at its end."""
    context, learner_state = learner.init(key, task)
    loss, (_, metrics) = segment_loss(learner, theta, context, learner_state, 0, learner.steps, scan)
    return loss, metrics
