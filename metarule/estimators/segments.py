"""Reverse mode segment by segment: forward passes store what the backward passes of their segments need.

Slopes are ∂loss/∂θ so far and ∂loss/∂state. A fast backward pass may not be valid for every segment; such a segment is
recomputed forward from its start, in the whole batch of lifetimes if in one of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime.unroll import unroll
from metarule.protocols import Learner
from metarule.types import Estimate, LearnerState, LifetimeContext, ScanFn, Theta

__all__ = ["Slopes", "any_in_batch", "gradient_by_segments", "recomputed_slopes", "slopes_before"]

Slopes = tuple[Theta, LearnerState]


def gradient_by_segments(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    state: LearnerState,
    ts: Int[Array, "segments n"],
    forward: Callable[[LearnerState, Int[Array, " n"]], tuple[LearnerState, Float[Array, ""], Any]],
    backward: Callable[[Slopes, Int[Array, " n"], LearnerState, LearnerState, Any], Slopes],
) -> Estimate:
    """Compute meta-loss and θ-gradient of a lifetime.

    Args:
        learner: the learner.
        theta: θ.
        context: constants of the lifetime.
        state: state before its first step.
        ts: steps, a row a segment.
        forward: from the state before a segment to (state after it, loss along it, record of it).
        backward: from (slopes after a segment, its steps, states before and after it, its record) to slopes before it.

    Returns:
        The estimate.
    """

    def ahead(carry: tuple[LearnerState, Array], ts: Int[Array, " n"]) -> tuple[tuple[LearnerState, Array], Any]:
        before, total = carry
        after, loss, record = forward(before, ts)
        return (after, total + loss), (before, record)

    def back(carry: tuple[Slopes, LearnerState], segment: Any) -> tuple[tuple[Slopes, LearnerState], None]:
        (slopes, after), (ts, (before, record)) = carry, segment
        return (backward(slopes, ts, before, after, record), before), None

    (last, online), segments = jax.lax.scan(ahead, (state, jnp.zeros(())), ts)
    evaluate = partial(_evaluate, learner, context)
    final, slope, metrics = jax.vjp(evaluate, theta, last, has_aux=True)
    end = slope(jnp.ones_like(final)), last
    (((gradient, _), _), _) = jax.lax.scan(back, end, (ts, segments), reverse=True)
    return Estimate(online + final, gradient, metrics)


def slopes_before(
    segment: Callable[[Theta, LearnerState], tuple[LearnerState, Float[Array, ""]]],
    theta: Theta,
    before: LearnerState,
    slopes: Slopes,
) -> Slopes:
    """Compute slopes before a segment by differentiating it.

    Args:
        segment: from θ and the state before it to (state after it, loss along it).
        theta: θ.
        before: state before it.
        slopes: slopes after it.

    Returns:
        The slopes.
    """
    (_, loss), slope = jax.vjp(segment, theta, before)
    own, state = slope((slopes[1], jnp.ones_like(loss)))
    return jax.tree.map(jnp.add, slopes[0], own), state


def recomputed_slopes(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    before: LearnerState,
    ts: Int[Array, " n"],
    slopes: Slopes,
    scan: ScanFn,
) -> Slopes:
    """Compute slopes before a segment that is recomputed from its start, step by step."""

    def segment(theta: Theta, state: LearnerState) -> tuple[LearnerState, Float[Array, ""]]:
        state, outputs = unroll(learner, theta, context, state, ts, scan)
        return state, jnp.sum(outputs.loss)

    return slopes_before(segment, theta, before, slopes)


@custom_vmap
def any_in_batch(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """True if a flag is set in any lifetime of the batch: one flag for all, so that `cond` runs one branch only."""
    return flag


@any_in_batch.def_vmap
def _any_in_batch(size: int, batched: list[bool], flag: Bool[Array, " lifetimes"]) -> tuple[Bool[Array, ""], bool]:
    return any_in_batch(jnp.any(flag)), False


def _evaluate(learner: Learner, context: LifetimeContext, theta: Theta, state: LearnerState) -> Any:
    return learner.evaluate(theta, context, state)
