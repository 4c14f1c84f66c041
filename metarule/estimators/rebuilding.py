"""Reverse mode that rebuilds the weights of each presentation from those after it, in place of keeping them.

Where Δw is affine in the weight, a presentation can be undone: with w' = w + Δw(w),

    Δw(w) = Δw(0) + w·(Δw(1) − Δw(0))   so that   w = (w' − Δw(0)) / (1 + Δw(1) − Δw(0)).

Forwards, what the synapses have seen is kept of every presentation, vectors alone, and the weights once a segment.
Backwards, each presentation is undone and then differentiated, so that the weights and their derivatives are all that
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

from metarule.estimators.segments import Slopes, anywhere, gradient_by_segments, lived_again
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Remat, divisor, loop
from metarule.types import Carry, Estimate, Learner, Life, Theta

__all__ = ["rebuilt_gradient", "segment_length"]

# Weights are what was kept if they differ by rounding alone: by so many times the precision, over a whole segment.
_ROUNDING = 100.0
# Weights of all presentations of a life that are less are faster kept than rebuilt.
_WORTH_BYTES = 2**22


def segment_length(learner: Learner, carry: Carry) -> int:
    """Presentations in a segment, near to √T, so that kept weights take as much memory at its ends as within it.

    Args:
        learner: who lives.
        carry: state at the start of its life.

    Returns:
        A number that divides the life; 0 where rebuilding is no use: presentations cannot be undone, their weights take
        so little memory that keeping them costs less, or no number near √T divides the life.
    """
    kept = learner.presentations * sum(weight.size * weight.dtype.itemsize for weight in carry.weights)
    if kept < _WORTH_BYTES or not isinstance(learner, Lifetime) or not learner.undoable:
        return 0
    return divisor(learner.presentations, round(learner.presentations**0.5))


def rebuilt_gradient(learner: Lifetime, segment: int, theta: Theta, life: Life, carry: Carry) -> Estimate:
    """Meta-loss and θ-gradient of a whole life.

    Args:
        learner: whose presentations can be undone.
        segment: presentations in a segment, which divides the life.
        theta: θ.
        life: constant part of the life.
        carry: state before its first presentation.

    Returns:
        The estimate.
    """
    times = jnp.arange(learner.presentations).reshape(-1, segment)

    def step(state: tuple[Carry, Array], time: Int[Array, ""]) -> tuple[tuple[Carry, Array], Any]:
        carry, seen, kept = learner.present(theta, life, state[0], time)
        return (carry, state[1] + seen.loss), kept

    def forwards(carry: Carry, times: Int[Array, " n"]) -> tuple[Carry, Float[Array, ""], Any]:
        (after, loss), seen = loop(step, (carry, jnp.zeros(())), times)
        return after, loss, seen

    def backwards(slopes: Slopes, times: Int[Array, " n"], before: Carry, after: Carry, seen: Any) -> Slopes:
        again = partial(lived_again, learner, theta, life, before, times, slopes, Remat())
        rebuilt = partial(_rebuilt, learner, theta, life, before, after, times, seen, slopes, again)
        return jax.lax.cond(anywhere(_at_bound(learner, after)), again, rebuilt)

    return gradient_by_segments(learner, theta, life, carry, times, forwards, backwards)


def _rebuilt(
    learner: Lifetime,
    theta: Theta,
    life: Life,
    before: Carry,
    after: Carry,
    times: Int[Array, " n"],
    seen: Any,
    slopes: Slopes,
    again: Callable[[], Slopes],
) -> Slopes:
    """Slopes before a segment, its weights undone one presentation after the other.

    They are taken as if there were no bound: what it did not stop has the same, and other segments are lived again.
    """

    def undo(state: tuple[Carry, Any, Array], at: Any) -> tuple[tuple[Carry, Any, Array], None]:
        (after, slopes, off), (time, kept) = state, at
        carry = learner.undo(theta, after, kept)
        slopes, again = _through(learner.unbounded, theta, life, carry, time, slopes)
        return (carry, slopes, off | _differ(_potentials(again), _potentials(kept))), None

    start = after, slopes, jnp.zeros((), bool)
    (first, found, off), _ = loop(undo, start, (times, seen), reverse=True)
    off |= _differ(first.weights, before.weights)
    return jax.lax.cond(anywhere(off), again, lambda: found)


def _through(
    learner: Lifetime, theta: Theta, life: Life, carry: Carry, time: Int[Array, ""], slopes: Slopes
) -> tuple[Slopes, Any]:
    """Slopes before a presentation from those after it, and what its synapses see."""

    def present(theta: Theta, carry: Carry) -> tuple[tuple[Carry, Float[Array, ""]], Any]:
        carry, seen, local = learner.present(theta, life, carry, time)
        return (carry, seen.loss), local

    (_, loss), slope, local = jax.vjp(present, theta, carry, has_aux=True)
    own, before = slope((slopes[1], jnp.ones_like(loss)))
    return (jax.tree.map(jnp.add, slopes[0], own), before), local


def _at_bound(learner: Lifetime, carry: Carry) -> Bool[Array, ""]:
    bound = learner.inner_loop.weight_bound
    weights = jax.lax.stop_gradient(carry.weights)
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
