"""Reverse mode segment by segment: forward passes record what the backward passes of their segments need.

Cotangents are ∂loss/∂θ so far and ∂loss/∂state. A fast backward pass may not be valid for every segment; such a segment
is recomputed forward from its start, in the whole batch of lifetimes if in one of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime.unroll import unroll
from metarule.protocols import Learner
from metarule.types import Estimate, LearnerState, LifetimeContext, Metrics, ScanFn, Theta

__all__ = ["Cotangents", "any_in_batch", "gradient_by_segments", "pull_back", "run_segment"]

Cotangents = tuple[Theta, LearnerState]


def gradient_by_segments(
    learner: Learner,
    theta: Theta,
    context: LifetimeContext,
    state: LearnerState,
    ts: Int[Array, "segments n"],
    forward: Callable[[LearnerState, Int[Array, " n"]], tuple[LearnerState, Float[Array, ""], Any]],
    backward: Callable[..., Cotangents],
    scan: ScanFn,
) -> Estimate:
    """Compute meta-loss and θ-gradient of a lifetime.

    Args:
        learner: the learner.
        theta: θ.
        context: constants of the lifetime.
        state: state before its first step.
        ts: steps, a row a segment.
        forward: from (state before a segment, its steps) to (state after it, loss over it, record of it).
        backward: from (cotangents after a segment, its steps, states before and after it, its record, recompute) to
            cotangents before it; `recompute()` returns these, too, from a forward pass that begins at the state before.
        scan: loop over the steps of a recomputed segment.

    Returns:
        The estimate.
    """

    def run(carry: tuple[LearnerState, Array], ts: Int[Array, " n"]) -> tuple[tuple[LearnerState, Array], Any]:
        before, total = carry
        after, loss, record = forward(before, ts)
        return (after, total + loss), (before, record)

    def back(carry: tuple[Cotangents, LearnerState], segment: Any) -> tuple[tuple[Cotangents, LearnerState], None]:
        (cotangents, after), (ts, (before, record)) = carry, segment

        def step_by_step(theta: Theta, state: LearnerState) -> tuple[tuple[LearnerState, Float[Array, ""]], None]:
            return run_segment(learner, theta, context, state, ts, scan), None

        def recompute() -> Cotangents:
            return pull_back(step_by_step, theta, before, cotangents)[0]

        return (backward(cotangents, ts, before, after, record, recompute), before), None

    def evaluate(theta: Theta, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        return learner.evaluate(theta, context, state)

    (last, online), segments = jax.lax.scan(run, (state, jnp.zeros(())), ts)
    final, derivative, metrics = jax.vjp(evaluate, theta, last, has_aux=True)
    end = derivative(jnp.ones_like(final)), last
    (((gradient, _), _), _) = jax.lax.scan(back, end, (ts, segments), reverse=True)
    return Estimate(online + final, gradient, metrics)


def pull_back(
    segment: Callable[[Theta, LearnerState], tuple[tuple[LearnerState, Float[Array, ""]], Any]],
    theta: Theta,
    before: LearnerState,
    cotangents: Cotangents,
) -> tuple[Cotangents, Any]:
    """Differentiate a segment.

    Args:
        segment: from θ and the state before it to ((state after it, loss over it), record of it).
        theta: θ.
        before: state before it.
        cotangents: cotangents after it.

    Returns:
        (cotangents before it, its record).
    """
    (_, loss), derivative, record = jax.vjp(segment, theta, before, has_aux=True)
    own, state = derivative((cotangents[1], jnp.ones_like(loss)))
    return (jax.tree.map(jnp.add, cotangents[0], own), state), record


def run_segment(
    learner: Learner, theta: Theta, context: LifetimeContext, state: LearnerState, ts: Int[Array, " n"], scan: ScanFn
) -> tuple[LearnerState, Float[Array, ""]]:
    """State after the steps of a segment, and the loss over it."""
    state, outputs = unroll(learner, theta, context, state, ts, scan)
    return state, jnp.sum(outputs.loss)


@custom_vmap
def any_in_batch(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """True if a flag is set in any lifetime of the batch: one flag for all, so that `cond` runs one branch only."""
    return flag


@any_in_batch.def_vmap
def _any_in_batch(size: int, batched: list[bool], flag: Bool[Array, " lifetimes"]) -> tuple[Bool[Array, ""], bool]:
    return any_in_batch(jnp.any(flag)), False
