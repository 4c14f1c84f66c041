"""Chunks of steps in which the first projection changes once.

The presynaptic activity of the first projection is known beforehand, because it is the stimulus. If a weight w changes
by a multiple of itself that depends on presynaptic variables only, plus a sum of few products of presynaptic and
postsynaptic factors,

    w' = w·g(pre) + Σₗ left_l(pre)·right_l(post),

then the weights at step t of a chunk that begins with W are, with P_t = Π_{s<t} g_s (one factor a row of W),

    W_t = P_t ∘ (W + Σ_{s<t} Σₗ (left_ls / P_{s+1}) ⊗ right_ls).

The input of the postsynaptic neurons at step t is a row of U·W, with u_t = pre_t ∘ P_t, plus the contribution of the
changes before it:

    pre_tᵀ·W_t = u_tᵀ·W + Σ_{s<t} Σₗ (u_t · left_ls / P_{s+1})·right_ls.

U·W, the inner products and the weights after the chunk are matrix products. Within the chunk, the circuit runs with a
first projection that has one presynaptic neuron a step: E [chunk, post] in place of W [pre, post], and one-hot stimuli.

The result is exact if no weight can have reached its bound: no weight of a neuron is further from W, or from the
weights after the chunk, than the largest changes of that half of the chunk together. It also has to hold that P is near
1, because dividing by it costs digits.

References:
    Schlag, Irie, Schmidhuber 2021 (outer-product updates as linear attention); Yang, Wang, Zhang, Shen, Kim 2024
    (chunks of them as matrix products).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metarule.kernels import kernels
from metarule.lifetime.losses import step_loss
from metarule.lifetime.scans import loop
from metarule.rules.factorising import outer_sum
from metarule.types import LearnerState, LifetimeContext, Stimulus, Synapse, Theta

__all__ = ["run_chunk"]

# Products of factors further from 1 cost digits.
_LARGEST_PRODUCT = 16.0


def run_chunk(
    learner: Any, theta: Theta, context: LifetimeContext, state: LearnerState, ts: Int[Array, " n"]
) -> tuple[LearnerState, Float[Array, ""], Bool[Array, ""]]:
    """Run a chunk of steps.

    Args:
        learner: a `Lifetime` that is `chunkable`.
        theta: θ.
        context: constants of the lifetime.
        state: state before the chunk.
        ts: its steps.

    Returns:
        (state after the chunk, loss over it, whether the result is certainly exact).
    """
    first, *rest = state.weights
    stimuli = jax.vmap(partial(learner.stimulus, context))(ts)
    # Chunks know inputs and targets only.
    is_plain = all(one is None for one in stimuli[2:])
    pre, left, factor = jax.vmap(partial(_presynaptic, learner, theta, context, state))(stimuli)
    _, (before, after) = _loop(lambda p, g: (p * g, (p, p * g)), jnp.ones_like(factor[0]), factor)
    read, written = pre * before, left / after[:, None]
    flat = written.reshape(-1, pre.shape[1])
    # `pre` includes the bias neuron, if there is one; within the chunk its row is empty.
    padding = pre.shape[1] - stimuli.input.shape[1]
    rows = jnp.pad(read @ first, ((0, padding), (0, 0)))
    # Contribution of each change to each row; rows that were read before are not used again.
    added = jnp.pad((flat @ read.T).reshape(*left.shape[:2], -1), ((0, 0), (0, 0), (0, padding)))

    def step(carry: tuple[Array, Any, Any, Array], inputs: Any) -> tuple[Any, Array]:
        rows, weights, circuit_state, total = carry
        number, target, pre, added = inputs
        stimulus = Stimulus(jax.nn.one_hot(number, len(ts), dtype=pre.dtype), target)
        result = learner.circuit.step((rows, *weights), context.wiring, circuit_state, stimulus)
        first_synapse, *synapses = result.synapses
        right = _parts(learner, theta, first_synapse._replace(pre=pre)).right
        others = enumerate(zip(weights, state.memory[1:], synapses, strict=True), start=1)
        weights = tuple(learner.apply_rule(theta, place, *other)[0] for place, other in others)
        total += step_loss(learner, result.output, target)
        return (rows + outer_sum(added, right), weights, result.state, total), right

    start = rows, tuple(rest), state.circuit, jnp.zeros(())
    inputs = jnp.arange(len(ts)), stimuli.target, pre, added
    (_, weights, circuit_state, loss), right = _loop(step, start, inputs)
    last = after[-1][:, None] * first + (flat * after[-1][None]).T @ right.reshape(len(flat), -1)
    constants = jax.lax.stop_gradient((first, last, written, right, after))
    is_exact = _is_exact(learner.inner_loop.weight_bound, *constants)
    return LearnerState((last, *weights), state.memory, circuit_state), loss, is_exact & is_plain


def _loop(body: Callable[[Any, Any], Any], carry: Any, xs: Any) -> Any:
    """Run a loop in XLA: few lifetimes of a wide network leave the lanes of a kernel idle."""
    with kernels("off"):
        return loop(body, carry, xs)


def _parts(learner: Any, theta: Theta, synapse: Synapse) -> Any:
    return learner.rule.parts(learner.theta_of(theta, 0), synapse)


def _presynaptic(
    learner: Any, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
) -> tuple[Float[Array, " pre"], Float[Array, "l pre"], Float[Array, " pre"]]:
    """Presynaptic activity of the first projection, left factors of its change, and factor of its weights."""
    synapse = learner.circuit.step(state.weights, context.wiring, state.circuit, stimulus).synapses[0]
    parts = _parts(learner, theta, synapse)
    return synapse.pre, parts.left, 1 + parts.factor


def _is_exact(
    bound: float | Float[Array, ""],
    first: Float[Array, "pre post"],
    last: Float[Array, "pre post"],
    written: Float[Array, "n l pre"],
    right: Float[Array, "n l post"],
    after: Float[Array, "n pre"],
) -> Bool[Array, ""]:
    """True if no weight can have reached its bound, and no product of factors is far from 1."""
    half = len(written) // 2
    size = jnp.max(jnp.abs(written), axis=2)[..., None]

    def largest_weight(weight: Float[Array, "pre post"], steps: slice) -> Float[Array, " post"]:
        """Upper bound of the weights of a neuron in a half of the chunk that begins or ends with these weights."""
        return jnp.max(jnp.abs(weight), axis=0) + jnp.sum(size[steps] * jnp.abs(right[steps]), axis=(0, 1))

    at_start, at_end = largest_weight(first, slice(half)), largest_weight(last / after[-1][:, None], slice(half, None))
    is_near = jnp.all((after > 1 / _LARGEST_PRODUCT) & (after < _LARGEST_PRODUCT))
    return is_near & jnp.all(jnp.maximum(jnp.max(after), 1.0) * jnp.maximum(at_start, at_end) < bound)
