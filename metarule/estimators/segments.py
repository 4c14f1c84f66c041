"""Reverse mode segment by segment: forwards each keeps what its slopes will need, backwards each finds them.

Slopes are ∂loss/∂θ so far and ∂loss/∂state. A way to find those before a segment from those after it may not hold for
every segment; then the segment is lived again from its start, in all lives side by side if in one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime.unroll import live
from metarule.types import Carry, Estimate, Learner, Life, ScanFn, Theta

__all__ = ["Slopes", "anywhere", "gradient_by_segments", "lived_again", "slopes_before"]

Slopes = tuple[Theta, Carry]


def gradient_by_segments(
    learner: Learner,
    theta: Theta,
    life: Life,
    carry: Carry,
    times: Int[Array, "segments n"],
    forwards: Callable[[Carry, Int[Array, " n"]], tuple[Carry, Float[Array, ""], Any]],
    backwards: Callable[[Slopes, Int[Array, " n"], Carry, Carry, Any], Slopes],
) -> Estimate:
    """Meta-loss and θ-gradient of a whole life.

    Args:
        learner: who lives.
        theta: θ.
        life: constant part of the life.
        carry: state before its first presentation.
        times: numbers of the presentations, a row a segment.
        forwards: from the state before a segment to that after it, the loss along it, and what is kept of it.
        backwards: from slopes after a segment, the states before and after it and what was kept, to slopes before it.

    Returns:
        The estimate.
    """

    def ahead(state: tuple[Carry, Array], times: Int[Array, " n"]) -> tuple[tuple[Carry, Array], Any]:
        before, along = state
        after, loss, kept = forwards(before, times)
        return (after, along + loss), (before, kept)

    def back(state: tuple[Slopes, Carry], segment: Any) -> tuple[tuple[Slopes, Carry], None]:
        (slopes, after), (times, (before, kept)) = state, segment
        return (backwards(slopes, times, before, after, kept), before), None

    (last, along), segments = jax.lax.scan(ahead, (carry, jnp.zeros(())), times)
    final, slope, metrics = jax.vjp(lambda theta, carry: learner.assess(theta, life, carry), theta, last, has_aux=True)
    end = slope(jnp.ones_like(final)), last
    (((gradient, _), _), _) = jax.lax.scan(back, end, (times, segments), reverse=True)
    return Estimate(along + final, gradient, metrics)


def slopes_before(
    segment: Callable[[Theta, Carry], tuple[Carry, Float[Array, ""]]], theta: Theta, before: Carry, slopes: Slopes
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
    own, carry = slope((slopes[1], jnp.ones_like(loss)))
    return jax.tree.map(jnp.add, slopes[0], own), carry


def lived_again(
    learner: Learner, theta: Theta, life: Life, before: Carry, times: Int[Array, " n"], slopes: Slopes, scan: ScanFn
) -> Slopes:
    """Slopes before a segment that is lived again from its start, presentation by presentation."""

    def segment(theta: Theta, carry: Carry) -> tuple[Carry, Float[Array, ""]]:
        carry, seen = live(learner, theta, life, carry, times, scan)
        return carry, jnp.sum(seen.loss)

    return slopes_before(segment, theta, before, slopes)


@custom_vmap
def anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether a flag is up in any of the lives side by side: one for all, so that `cond` runs one branch alone."""
    return flag


@anywhere.def_vmap
def _in_any_life(count: int, batched: list[bool], flag: Bool[Array, " lives"]) -> tuple[Bool[Array, ""], bool]:
    return anywhere(jnp.any(flag)), False
