"""Reverse mode through chunks of steps in which the first projection changes once; see `metarule.lifetime.chunks`.

A chunk whose result is not certainly exact is recomputed step by step.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metarule.estimators.segments import Cotangents, any_in_batch, gradient_by_segments, pull_back, run_segment
from metarule.lifetime.scans import Segmented, divisor, loop
from metarule.protocols import ChunkableLearner, Learner
from metarule.types import Estimate, LearnerState, LifetimeContext, Theta

__all__ = ["chunk_length", "chunk_working_set", "chunked_gradient"]

# Steps of a chunk: more cost more within the chunk, fewer read and write the weights more often.
_LENGTH = 40
# Presynaptic neurons for each step of a chunk from which chunks are faster.
_MIN_NEURONS = 8


def chunk_length(learner: Learner, state: LearnerState) -> int:
    """Choose the steps of a chunk, a number that divides the lifetime.

    It is 0 where steps cannot be computed in chunks, where the first projection is too small, or where no number near
    the best divides the lifetime.
    """
    if not isinstance(learner, ChunkableLearner) or not learner.chunkable:
        return 0
    length = divisor(learner.steps, _LENGTH)
    return length if state.weights[0].shape[0] >= _MIN_NEURONS * length else 0


def chunk_working_set(state: LearnerState, length: int) -> Any:
    """Shapes of the arrays that a step of a chunk touches."""
    first, *rest = state.weights
    return jax.ShapeDtypeStruct((length, first.shape[1]), first.dtype), rest


def chunked_gradient(
    learner: ChunkableLearner, length: int, theta: Theta, context: LifetimeContext, state: LearnerState
) -> Estimate:
    """Compute meta-loss and θ-gradient of a lifetime from its initial state, in chunks whose length divides it."""

    def chunk(ts: Int[Array, " n"], theta: Theta, state: LearnerState) -> Any:
        after, loss, is_exact = learner.run_chunk(theta, context, state, ts)
        return (after, loss), is_exact

    def forward(state: LearnerState, ts: Int[Array, " n"]) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
        result, is_exact = chunk(ts, theta, state)
        is_recomputed = any_in_batch(~is_exact)
        step_by_step = partial(run_segment, learner, theta, context, state, ts, loop)
        return *jax.lax.cond(is_recomputed, step_by_step, lambda: result), is_recomputed

    def backward(
        cotangents: Cotangents, ts: Any, before: LearnerState, after: LearnerState, is_recomputed: Any, recompute: Any
    ) -> Cotangents:
        in_one = partial(pull_back, partial(chunk, ts), theta, before, cotangents)
        return jax.lax.cond(is_recomputed, recompute, lambda: in_one()[0])

    ts = jnp.arange(learner.steps).reshape(-1, length)
    return gradient_by_segments(learner, theta, context, state, ts, forward, backward, Segmented())
