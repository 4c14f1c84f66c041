"""Reverse mode segment by segment: forwards each keeps what its slopes will need, backwards each finds them.

Slopes are ∂loss/∂θ so far and ∂loss/∂state. A way to find those before a segment from those after it may not hold for
every segment; then the segment is lived again from its start, in all lifetimes side by side if in one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime.unroll import unroll
from metarule.types import Estimate, Learner, LearnerState, LifetimeContext, ScanFn, Theta

__all__ = ["Slopes", "anywhere", "gradient_by_segments", "recomputed_slopes", "slopes_before"]

Slopes = tuple[Theta, LearnerState]


def gradient_by_segments(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    learner_state: LearnerState,
    ts: Int[Array, "segments n"],
    forwards: Callable[[LearnerState, Int[Array, " n"]], tuple[LearnerState, Float[Array, ""], Any]],
    backwards: Callable[[Slopes, Int[Array, " n"], LearnerState, LearnerState, Any], Slopes],
) -> Estimate:
    """Meta-loss and θ-gradient of a whole lifetime.

    Args:
        learner: who lives.
        theta: θ.
        context: constant part of the lifetime.
        carry: state before its first step.
        times: numbers of the steps, a row a segment.
        forwards: from the state before a segment to that after it, the loss along it, and what is kept of it.
        backwards: from slopes after a segment, the states before and after it and what was kept, to slopes before it.

    Returns:
        The estimate.
    """

    def ahead(state: tuple[LearnerState, Array], ts: Int[Array, " n"]) -> tuple[tuple[LearnerState, Array], Any]:
        before, along = state
        after, loss, kept = forwards(before, ts)
        return (after, along + loss), (before, kept)

    def back(state: tuple[Slopes, LearnerState], segment: Any) -> tuple[tuple[Slopes, LearnerState], None]:
        (slopes, after), (ts, (before, kept)) = state, segment
        return (backwards(slopes, ts, before, after, kept), before), None

    (last, along), segments = jax.lax.scan(ahead, (learner_state, jnp.zeros(())), ts)
    final, slope, metrics = jax.vjp(
        lambda theta, learner_state: learner.evaluate(theta, context, learner_state), theta, last, has_aux=True
    )
    end = slope(jnp.ones_like(final)), last
    (((gradient, _), _), _) = jax.lax.scan(back, end, (ts, segments), reverse=True)
    return Estimate(along + final, gradient, metrics)


def slopes_before(
    segment: Callable[[Theta, LearnerState], tuple[LearnerState, Float[Array, ""]]],
    theta: Theta,
    before: LearnerState,
    slopes: Slopes,
) -> Slopes:
    """Slopes before a segment, by differentiating it.

    Args:
        segment: from θ and the state before it to that after it, and the loss along it.
        theta: θ.
        before: that state.
        slopes: after it.

    Returns:
        The slopes.
    """
    (_, loss), slope = jax.vjp(segment, theta, before)
    own, learner_state = slope((slopes[1], jnp.ones_like(loss)))
    return jax.tree.map(jnp.add, slopes[0], own), learner_state


def recomputed_slopes(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    before: LearnerState,
    ts: Int[Array, " n"],
    slopes: Slopes,
    scan: ScanFn,
) -> Slopes:
    """Slopes before a segment that is lived again from its start, step by step."""

    def segment(theta: Theta, learner_state: LearnerState) -> tuple[LearnerState, Float[Array, ""]]:
        learner_state, seen = unroll(learner, theta, context, learner_state, ts, scan)
        return learner_state, jnp.sum(seen.loss)

    return slopes_before(segment, theta, before, slopes)


@custom_vmap
def anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether a flag is up in any of the lifetimes side by side: one for all, so that `cond` runs one branch alone."""
    return flag


@anywhere.def_vmap
def _in_any_life(count: int, batched: list[bool], flag: Bool[Array, " lives"]) -> tuple[Bool[Array, ""], bool]:
    return anywhere(jnp.any(flag)), False
