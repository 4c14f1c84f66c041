"""Reverse mode that reconstructs the weights before each step from those after it, instead of storing them.

If Δw is affine in the weight, a step can be inverted: with w' = w + Δw(w),

    Δw(w) = Δw(0) + w·(Δw(1) − Δw(0))   so that   w = (w' − Δw(0)) / (1 + Δw(1) − Δw(0)).

The forward pass stores the local variables of every step, which are vectors, and the weights once a segment. The
backward pass inverts each step and then differentiates it. Memory holds the weights and their derivatives once, which
stay in a processor's cache. Rounding errors add up within a segment only.

A clipped update is not invertible, nor is one whose factor is near 0. The reconstruction is therefore verified: every
potential computed from it must equal the recorded one, and the first weights of a segment must equal the stored ones,
up to rounding. Otherwise, and where weights are at the bound, the segment is recomputed forward. Only a weight that was
clipped by less than rounding is taken for one that was not clipped. There the gradient is not exact: in a contrived
case with many such weights it was off by 5 %.

References:
    Maclaurin, Duvenaud, Adams 2015 (learning inverted step by step); Gomez, Ren, Urtasun, Grosse 2017 (activations
    reconstructed in the backward pass).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metarule.estimators.segments import Cotangents, any_in_batch, gradient_by_segments, pull_back
from metarule.lifetime.scans import Remat, divisor, loop
from metarule.parallel.batching import bytes_of
from metarule.protocols import InvertibleLearner, Learner
from metarule.types import Estimate, LearnerState, LifetimeContext, Theta

__all__ = ["inverted_gradient", "segment_length"]

# Weights are equal up to rounding if they differ by less than so many times the precision, over a segment.
_ROUNDING = 100.0
# If the weights of all steps take less memory, storing them is faster.
_MIN_BYTES = 2**22


def segment_length(learner: Learner, state: LearnerState) -> int:
    """Choose the steps of a segment: near √T, so that weights stored at its ends take as much memory as its records.

    The number divides the lifetime. It is 0 where steps cannot be inverted, where their weights take little memory, or
    where no number near √T divides the lifetime.
    """
    size = learner.steps * bytes_of(state.weights)
    if size < _MIN_BYTES or not isinstance(learner, InvertibleLearner) or not learner.invertible:
        return 0
    return divisor(learner.steps, round(learner.steps**0.5))


def inverted_gradient(
    learner: InvertibleLearner, length: int, theta: Theta, context: LifetimeContext, state: LearnerState
) -> Estimate:
    """Compute meta-loss and θ-gradient of a lifetime from its initial state, in segments whose length divides it."""
    # An update that was not clipped has the same derivative without the bound; segments with others are recomputed.
    unbounded = learner.without_bound()

    def forward(state: LearnerState, ts: Int[Array, " n"]) -> tuple[LearnerState, Float[Array, ""], Any]:
        def step(carry: tuple[LearnerState, Array], t: Int[Array, ""]) -> tuple[tuple[LearnerState, Array], Any]:
            (after, loss), record = _step(learner, context, t, theta, carry[0])
            return (after, carry[1] + loss), record

        (after, loss), records = loop(step, (state, jnp.zeros(())), ts)
        return after, loss, records

    def step_back(carry: tuple[LearnerState, Any, Array], inputs: Any) -> tuple[tuple[LearnerState, Any, Array], None]:
        (after, cotangents, differs), (t, record) = carry, inputs
        state = learner.invert_step(theta, after, record)
        cotangents, again = pull_back(partial(_step, unbounded, context, t), theta, state, cotangents)
        potentials = (learner.recorded_potentials(one) for one in (again, record))
        return (state, cotangents, differs | _differ(*potentials)), None

    def backward(
        cotangents: Cotangents, ts: Any, before: LearnerState, after: LearnerState, records: Any, recompute: Any
    ) -> Cotangents:
        def invert() -> Cotangents:
            last = after, cotangents, jnp.zeros((), bool)
            (first, result, differs), _ = loop(step_back, last, (ts, records), reverse=True)
            differs |= _differ(first.weights, before.weights)
            return jax.lax.cond(any_in_batch(differs), recompute, lambda: result)

        return jax.lax.cond(any_in_batch(learner.at_bound(after)), recompute, invert)

    ts = jnp.arange(learner.steps).reshape(-1, length)
    return gradient_by_segments(learner, theta, context, state, ts, forward, backward, Remat())


def _step(
    learner: InvertibleLearner, context: LifetimeContext, t: Int[Array, ""], theta: Theta, state: LearnerState
) -> tuple[tuple[LearnerState, Float[Array, ""]], Any]:
    state, output, record = learner.step_with_record(theta, context, state, learner.stimulus(context, t))
    return (state, output.loss), record


def _differ(ones: Sequence[Array], others: Sequence[Array]) -> Bool[Array, ""]:
    """True if arrays differ by more than rounding, or are not finite."""
    near = [
        jnp.all(jnp.abs(one - other) <= _ROUNDING * jnp.finfo(one.dtype).eps * (1 + jnp.abs(other)))
        for one, other in zip(jax.lax.stop_gradient(ones), jax.lax.stop_gradient(others), strict=True)
    ]
    return ~jnp.all(jnp.stack(near))
