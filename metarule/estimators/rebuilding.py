"""Reverse mode that rebuilds the weights of each step from those after it, in place of keeping them.

Where Δw is affine in the weight, a step can be undone: with w' = w + Δw(w),

    Δw(w) = Δw(0) + w·(Δw(1) − Δw(0))   so that   w = (w' − Δw(0)) / (1 + Δw(1) − Δw(0)).

Forwards, what the synapses have seen is kept of every step, vectors alone, and the weights once a segment.
Backwards, each step is undone and then differentiated, so that the weights and their derivatives are all that
memory holds of the matrices, and stay in a processor's cache. Rounding adds up over a segment alone.

A weight that was stopped at its bound cannot be told from the weight after it, nor one whose factor is near 0. What is
rebuilt is therefore looked at: every potential that comes of it has to be the one that was seen, and the first weights
of a segment those that were kept, but for rounding. Otherwise, and where weights rest at the bound, the segment is
lived again from its start, and all its weights kept. So a weight is taken for one that moved freely only where its
bound took from it less than rounding might have. There alone the gradient is not exact: where many weights are clipped
by so little it was off by 5 % in a contrived case.

References:
    Maclaurin, Duvenaud, Adams 2015 (learning undone step by step); Gomez, Ren, Urtasun, Grosse 2017 (activations
    rebuilt backwards).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metarule.estimators.segments import Slopes, anywhere, gradient_by_segments, recomputed_slopes
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Remat, divisor, loop
from metarule.types import Estimate, Learner, LearnerState, LifetimeContext, Theta

__all__ = ["invertible_gradient", "segment_length"]

# Weights are what was kept if they differ by rounding alone: by so many times the precision, over a whole segment.
_ROUNDING = 100.0
# Weights of all steps of a lifetime that are less are faster kept than rebuilt.
_WORTH_BYTES = 2**22


def segment_length(learner: Learner, learner_state: LearnerState) -> int:
    """Steps in a segment, near to √T, so that kept weights take as much memory at its ends as within it.

    Args:
        learner: who lives.
        carry: state at the start of its lifetime.

    Returns:
        A number that divides the lifetime; 0 where rebuilding is no use: steps cannot be undone, their weights take
        so little memory that keeping them costs less, or no number near √T divides the lifetime.
    """
    kept = learner.steps * sum(weight.size * weight.dtype.itemsize for weight in learner_state.weights)
    if kept < _WORTH_BYTES or not isinstance(learner, Lifetime) or not learner.invertible:
        return 0
    return divisor(learner.steps, round(learner.steps**0.5))


def invertible_gradient(
    learner: Lifetime, segment: int, theta: Theta, context: LifetimeContext, learner_state: LearnerState
) -> Estimate:
    """Meta-loss and θ-gradient of a whole lifetime.

    Args:
        learner: whose steps can be undone.
        segment: steps in a segment, which divides the lifetime.
        theta: θ.
        context: constant part of the lifetime.
        carry: state before its first step.

    Returns:
        The estimate.
    """
    ts = jnp.arange(learner.steps).reshape(-1, segment)

    def step(state: tuple[LearnerState, Array], t: Int[Array, ""]) -> tuple[tuple[LearnerState, Array], Any]:
        learner_state, seen, kept = learner.present(theta, context, state[0], t)
        return (learner_state, state[1] + seen.loss), kept

    def forwards(learner_state: LearnerState, ts: Int[Array, " n"]) -> tuple[LearnerState, Float[Array, ""], Any]:
        (after, loss), seen = loop(step, (learner_state, jnp.zeros(())), ts)
        return after, loss, seen

    def backwards(slopes: Slopes, ts: Int[Array, " n"], before: LearnerState, after: LearnerState, seen: Any) -> Slopes:
        again = partial(recomputed_slopes, learner, theta, context, before, ts, slopes, Remat())
        rebuilt = partial(_rebuilt, learner, theta, context, before, after, ts, seen, slopes, again)
        return jax.lax.cond(anywhere(_at_bound(learner, after)), again, rebuilt)

    return gradient_by_segments(learner, theta, context, learner_state, ts, forwards, backwards)


def _rebuilt(
    learner: Lifetime,
    theta: Theta,
    context: LifetimeContext,
    before: LearnerState,
    after: LearnerState,
    ts: Int[Array, " n"],
    seen: Any,
    slopes: Slopes,
    again: Callable[[], Slopes],
) -> Slopes:
    """Slopes before a segment, its weights undone one step after the other.

    They are taken as if there were no bound: what it did not stop has the same, and other segments are lived again.
    """

    def invert_step(state: tuple[LearnerState, Any, Array], at: Any) -> tuple[tuple[LearnerState, Any, Array], None]:
        (after, slopes, off), (t, kept) = state, at
        learner_state = learner.invert_step(theta, after, kept)
        slopes, again = _through(learner.without_bound, theta, context, learner_state, t, slopes)
        return (learner_state, slopes, off | _differ(_potentials(again), _potentials(kept))), None

    start = after, slopes, jnp.zeros((), bool)
    (first, found, off), _ = loop(invert_step, start, (ts, seen), reverse=True)
    off |= _differ(first.weights, before.weights)
    return jax.lax.cond(anywhere(off), again, lambda: found)


def _through(
    learner: Lifetime,
    theta: Theta,
    context: LifetimeContext,
    learner_state: LearnerState,
    t: Int[Array, ""],
    slopes: Slopes,
) -> tuple[Slopes, Any]:
    """Slopes before a step from those after it, and what its synapses see."""

    def present(theta: Theta, learner_state: LearnerState) -> tuple[tuple[LearnerState, Float[Array, ""]], Any]:
        learner_state, seen, local = learner.present(theta, context, learner_state, t)
        return (learner_state, seen.loss), local

    (_, loss), slope, local = jax.vjp(present, theta, learner_state, has_aux=True)
    own, before = slope((slopes[1], jnp.ones_like(loss)))
    return (jax.tree.map(jnp.add, slopes[0], own), before), local


def _at_bound(learner: Lifetime, learner_state: LearnerState) -> Bool[Array, ""]:
    bound = learner.inner_loop.weight_bound
    weights = jax.lax.stop_gradient(learner_state.weights)
    return jnp.any(jnp.stack([jnp.any(jnp.abs(weight) >= bound) for weight in weights]))


def _potentials(kept: Any) -> list[Array]:
    _, local = kept
    return [seen["potential"] for seen in local]


def _differ(ones: Sequence[Array], others: Sequence[Array]) -> Bool[Array, ""]:
    """Whether arrays differ by more than rounding, or are no numbers."""
    near = [
        jnp.all(jnp.abs(one - other) <= _ROUNDING * jnp.finfo(one.dtype).eps * (1 + jnp.abs(other)))
        for one, other in zip(jax.lax.stop_gradient(ones), jax.lax.stop_gradient(others), strict=True)
    ]
    return ~jnp.all(jnp.stack(near))
