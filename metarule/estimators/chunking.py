"""Reverse mode through chunks of steps whose changes of the first projection are made together.

Where what a projection hears is known beforehand, as stimuli are, and where a weight w changes by what depends on pre
times itself, besides a sum of few products of what depends on pre and of what depends on post,

    w' = w·g(pre) + Σₗ left_l(pre)·right_l(post),

the weights of step t of a chunk that begins with W are, with P_t = Π_{s<t} g_s (by rows of W),

    W_t = P_t ∘ (W + Σ_{s<t} Σₗ (left_ls / P_{s+1}) ⊗ right_ls),

so that what step t sends to post is a row of U·W, with u_t = pre_t ∘ P_t, plus what the changes before it
have added to that row:

    pre_tᵀ·W_t = u_tᵀ·W + Σ_{s<t} Σₗ (u_t · left_ls / P_{s+1})·right_ls.

U·W, the products in brackets and the weights after the chunk are products of whole matrices. Within it, a network lives
whose first projection has one neuron a step of the chunk: E [chunk, post] in place of W [pre, post]. It is what
`step` of the circuit is given, with stimuli of which one input is at 1.

A bound stops nothing as long as no weight can have come to it: no weight of a neuron has gone further from W, or from
the weights after the chunk, than all largest changes of that half of the chunk together. Otherwise the chunk is lived
step by step, and so it is where P is far from 1 and dividing by it costs digits.

References:
    Schlag, Irie, Schmidhuber 2021 (outer-product updates as linear attention); Yang, Wang, Zhang, Shen, Kim 2024
    (chunks of them as matrix products).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metarule.estimators.segments import Slopes, anywhere, gradient_by_segments, recomputed_slopes, slopes_before
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Segmented, divisor, loop
from metarule.lifetime.unroll import unroll
from metarule.rules.products import outer_sum
from metarule.types import Estimate, Learner, LearnerState, LifetimeContext, Stimulus, Theta

__all__ = ["chunk_length", "chunked_gradient", "touched"]

# Steps in a chunk: more of them cost more within it, fewer go over the weights more often.
_LENGTH = 40
# Neurons that send, for each step of a chunk, above which it is worth it.
_WORTH = 8
# Products of factors further from 1 cost digits.
_FAR = 16.0


def chunk_length(learner: Learner, learner_state: LearnerState) -> int:
    """Steps in a chunk.

    Args:
        learner: who lives.
        carry: state at the start of its lifetime.

    Returns:
        A number that divides the lifetime; 0 where the rule or the circuit does not allow it, where the first projection is
        too small for it to be worth it, or where no number that is near the best divides the lifetime.
    """
    if not isinstance(learner, Lifetime) or not learner.chunkable:
        return 0
    length = divisor(learner.steps, _LENGTH)
    return length if learner_state.weights[0].shape[0] >= _WORTH * length else 0


def touched(learner_state: LearnerState, length: int) -> Any:
    """Shapes of what each step of a chunk goes over."""
    first, *rest = learner_state.weights
    return jax.ShapeDtypeStruct((length, first.shape[1]), first.dtype), rest


def chunked_gradient(
    learner: Lifetime, length: int, theta: Theta, context: LifetimeContext, learner_state: LearnerState
) -> Estimate:
    """Meta-loss and θ-gradient of a whole lifetime.

    Args:
        learner: who is `chunkable`.
        length: steps in a chunk, which divides the lifetime.
        theta: θ.
        context: constant part of the lifetime.
        carry: state before its first step.

    Returns:
        The estimate.
    """
    ts = jnp.arange(learner.steps).reshape(-1, length)
    one_by_one = Segmented()

    def forwards(
        learner_state: LearnerState, ts: Int[Array, " n"]
    ) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
        def again() -> tuple[LearnerState, Float[Array, ""]]:
            after, seen = unroll(learner, theta, context, learner_state, ts)
            return after, jnp.sum(seen.loss)

        after, loss, free = _together(learner, context, ts, theta, learner_state)
        stopped = anywhere(~free)
        return *jax.lax.cond(stopped, again, lambda: (after, loss)), stopped

    def backwards(
        slopes: Slopes, ts: Int[Array, " n"], before: LearnerState, after: LearnerState, stopped: Any
    ) -> Slopes:
        again = partial(recomputed_slopes, learner, theta, context, before, ts, slopes, one_by_one)
        together = partial(slopes_before, lambda *given: _together(learner, context, ts, *given)[:2])
        return jax.lax.cond(stopped, again, lambda: together(theta, before, slopes))

    return gradient_by_segments(learner, theta, context, learner_state, ts, forwards, backwards)


def _together(
    learner: Lifetime, context: LifetimeContext, ts: Int[Array, " n"], theta: Theta, learner_state: LearnerState
) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
    """State after a chunk and the loss along it, if no weight was stopped; and whether surely none was."""
    first, *rest = learner_state.weights
    stimuli = jax.vmap(partial(learner.stimulus, context))(ts)
    pre, left, factor = jax.vmap(partial(_sent, learner, theta, context, learner_state))(stimuli)
    _, (before, after) = loop(lambda p, g: (p * g, (p, p * g)), jnp.ones_like(factor[0]), factor)
    read, written = pre * before, left / after[:, None]
    flat = written.reshape(-1, pre.shape[1])
    # The neuron that is always at 1, where there is one, is among those of `pre`: within the chunk it sends nothing.
    none = pre.shape[1] - stimuli.input.shape[1]
    rows = jnp.pad(read @ first, ((0, none), (0, 0)))
    # What each change adds to each row; to rows that were read before it does no harm.
    added = jnp.pad((flat @ read.T).reshape(*left.shape[:2], -1), ((0, 0), (0, 0), (0, none)))

    def present(state: tuple[Array, Any, Any, Array], at: Any) -> tuple[Any, Array]:
        rows, weights, activity, along = state
        number, target, pre, added = at
        stimulus = Stimulus(jax.nn.one_hot(number, len(ts), dtype=pre.dtype), target)
        activity, output, seen = learner.circuit.step((rows, *weights), context.wiring, activity, stimulus)
        right = learner.rule.parts(learner.theta_of(theta, 0), seen[0]._replace(pre=pre)).right  # type: ignore[attr-defined]
        synapses = enumerate(zip(weights, learner_state.memory[1:], seen[1:], strict=True), start=1)
        weights = tuple(learner.changed(theta, place, *own)[0] for place, own in synapses)
        return (rows + outer_sum(added, right), weights, activity, along + learner.step_loss(output, target)), right

    start = rows, tuple(rest), learner_state.activity, jnp.zeros(())
    steps = jnp.arange(len(ts)), stimuli.target, pre, added
    (_, weights, activity, loss), right = loop(present, start, steps)
    last = after[-1][:, None] * first + (flat * after[-1][None]).T @ right.reshape(len(flat), -1)
    learner_state = LearnerState((last, *weights), learner_state.memory, activity)
    seen = jax.lax.stop_gradient((first, last, written, right, after))
    return learner_state, loss, _free(learner.inner_loop.weight_bound, *seen)


def _sent(
    learner: Lifetime, theta: Theta, context: LifetimeContext, learner_state: LearnerState, stimulus: Stimulus
) -> tuple[Float[Array, " pre"], Float[Array, "l pre"], Float[Array, " pre"]]:
    """What the first projection hears of a stimulus: pre, the left sides of its change, the factor of its weights."""
    seen = learner.circuit.step(learner_state.weights, context.wiring, learner_state.activity, stimulus)[2][0]
    parts = learner.rule.parts(learner.theta_of(theta, 0), seen)  # type: ignore[attr-defined]
    return seen.pre, parts.left, 1 + parts.factor


def _free(
    bound: float | Float[Array, ""],
    first: Float[Array, "pre post"],
    last: Float[Array, "pre post"],
    written: Float[Array, "n l pre"],
    right: Float[Array, "n l post"],
    after: Float[Array, "n pre"],
) -> Bool[Array, ""]:
    """Whether no weight can have come to its bound, and no product of factors is far from 1."""
    half = len(written) // 2
    way = jnp.max(jnp.abs(written), axis=2)[..., None]

    def threshold(weight: Float[Array, "pre post"], some: slice) -> Float[Array, " post"]:
        """How large the weights of a neuron can have become on the way from or to these."""
        return jnp.max(jnp.abs(weight), axis=0) + jnp.sum(way[some] * jnp.abs(right[some]), axis=(0, 1))

    largest = jnp.maximum(threshold(first, slice(half)), threshold(last / after[-1][:, None], slice(half, None)))
    near = jnp.all((after > 1 / _FAR) & (after < _FAR))
    return near & jnp.all(jnp.maximum(jnp.max(after), 1.0) * largest < bound)
