"""Reverse mode that rebuilds the weights of each presentation from those after it, in place of keeping them.

Where Δw is affine in the weight, a presentation can be undone: with w' = w + Δw(w),

    Δw(w) = Δw(0) + w·(Δw(1) − Δw(0))   so that   w = (w' − Δw(0)) / (1 + Δw(1) − Δw(0)).

Forwards, what the synapses have seen is kept of every presentation, vectors alone, and the weights once a segment.
Backwards, each presentation is undone and then differentiated, so that the weights and their derivatives are all that
memory holds of the matrices, and stay in a processor's cache. Rounding adds up over a segment alone.

A weight that was stopped at its bound cannot be told from the weight after it, nor one whose factor is near 0. Each
segment therefore ends with a look at the weights with which it began: where they are not what was kept, or where
weights rest at the bound, it is lived again from its start and all its weights kept.

References:
    Maclaurin, Duvenaud, Adams 2015 (learning undone step by step); Gomez, Ren, Urtasun, Grosse 2017 (activations
    rebuilt backwards).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime import Lifetime, live
from metarule.products import is_tiny
from metarule.scans import Remat
from metarule.types import Carry, Estimate, Learner, Life, Observation, Theta

__all__ = ["rebuilt_gradient", "segment_length"]

# Weights are what was kept if they differ by rounding alone: by so many times the precision, over a whole segment.
_ROUNDING = 1000.0


def segment_length(learner: Learner, carry: Carry) -> int:
    """Presentations in a segment, near to √T, so that kept weights take as much memory at its ends as within it.

    Args:
        learner: who lives.
        carry: state at the start of its life.

    Returns:
        A number that divides the life; 0 where rebuilding is no use: presentations cannot be undone, networks are so
        tiny that keeping their weights costs less, or no number near √T divides the life.
    """
    if (
        not isinstance(learner, Lifetime)
        or not learner.undoable
        or all(is_tiny(weight.shape) for weight in carry.weights)
    ):
        return 0
    best = round(learner.presentations**0.5)
    near = [size for size in range((best + 1) // 2, 2 * best + 1) if learner.presentations % size == 0]
    return min(near, key=lambda size: abs(size - best), default=0)


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

    def forwards(state: tuple[Carry, Array], times: Int[Array, " n"]) -> tuple[tuple[Carry, Array], Any]:
        after, kept = jax.lax.scan(step, state, times)
        return after, (state[0], after[0], kept)

    def backwards(slopes: tuple[Theta, Carry], kept: Any) -> tuple[tuple[Theta, Carry], None]:
        times, (before, after, seen) = kept
        lived_again = partial(_lived_again, learner, theta, life, before, times, slopes)
        rebuilt = partial(_rebuilt, learner, theta, life, before, after, times, seen, slopes, lived_again)
        return jax.lax.cond(_anywhere(_at_bound(learner, after)), lived_again, rebuilt), None

    (last, along), segments = jax.lax.scan(forwards, (carry, jnp.zeros(())), times)
    final, slope, metrics = jax.vjp(lambda theta, carry: learner.assess(theta, life, carry), theta, last, has_aux=True)
    (gradient, _), _ = jax.lax.scan(backwards, slope(jnp.ones_like(final)), (times, segments), reverse=True)
    return Estimate(along + final, gradient, metrics)


def _rebuilt(
    learner: Lifetime,
    theta: Theta,
    life: Life,
    before: Carry,
    after: Carry,
    times: Int[Array, " n"],
    seen: Any,
    slopes: tuple[Theta, Carry],
    lived_again: Any,
) -> tuple[Theta, Carry]:
    """Slopes before a segment, its weights undone one presentation after the other."""

    def undo(state: tuple[Carry, tuple[Theta, Carry]], at: Any) -> tuple[tuple[Carry, tuple[Theta, Carry]], None]:
        (after, slopes), (time, kept) = state, at
        carry = learner.undo(theta, after, kept)
        return (carry, _through(learner, theta, life, carry, time, slopes)), None

    (first, found), _ = jax.lax.scan(undo, (after, slopes), (times, seen), reverse=True)
    return jax.lax.cond(_anywhere(_differ(first, before)), lived_again, lambda: found)


def _lived_again(
    learner: Lifetime, theta: Theta, life: Life, before: Carry, times: Int[Array, " n"], slopes: tuple[Theta, Carry]
) -> tuple[Theta, Carry]:
    """Slopes before a segment that is lived again from its start."""

    def segment(theta: Theta, carry: Carry) -> tuple[Carry, Float[Array, ""]]:
        carry, seen = live(learner, theta, life, carry, times, Remat())
        return carry, jnp.sum(seen.loss)

    (_, total), slope = jax.vjp(segment, theta, before)
    own, carry = slope((slopes[1], jnp.ones_like(total)))
    return jax.tree.map(jnp.add, slopes[0], own), carry


def _through(
    learner: Lifetime, theta: Theta, life: Life, carry: Carry, time: Int[Array, ""], slopes: tuple[Theta, Carry]
) -> tuple[Theta, Carry]:
    """Slopes before a presentation from those after it."""
    (_, seen), slope = jax.vjp(lambda theta, carry: learner.step(theta, life, carry, time), theta, carry)
    own, before = slope((slopes[1], Observation(jnp.ones_like(seen.loss), jnp.zeros_like(seen.output))))
    return jax.tree.map(jnp.add, slopes[0], own), before


def _at_bound(learner: Lifetime, carry: Carry) -> Bool[Array, ""]:
    bound = learner.inner_loop.weight_bound
    return jnp.any(jnp.stack([jnp.any(jnp.abs(weight) >= bound) for weight in carry.weights]))


def _differ(one: Carry, other: Carry) -> Bool[Array, ""]:
    """Whether weights differ by more than rounding, or are no numbers."""
    return ~jnp.all(
        jnp.stack(
            [
                jnp.all(jnp.abs(a - b) <= _ROUNDING * jnp.finfo(a.dtype).eps * (1 + jnp.abs(b)))
                for a, b in zip(one.weights, other.weights, strict=True)
            ]
        )
    )


@custom_vmap
def _anywhere(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether a flag is up in any of the lives side by side: one for all, so that `cond` runs one branch alone."""
    return flag


@_anywhere.def_vmap
def _in_any_life(count: int, batched: list[bool], flag: Bool[Array, " lives"]) -> tuple[Bool[Array, ""], bool]:
    return _anywhere(jnp.any(flag)), False
