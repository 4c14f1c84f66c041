"""Fit of a network to the recording of one animal, and its derivatives: gradient and Gauss–Newton matrix."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.lifetime.scans import loop
from metarule.prng import run_key
from metarule.recordings.likelihood import by_kind, fit_of
from metarule.recordings.tasks import RecordedTask
from metarule.types import Integer, Theta

__all__ = ["Curvature", "curvature_of", "network_of"]

# Numbers of the derivatives of a segment of a recording, which are summed before those of the next one are computed.
_SEGMENT = 2**22


class Curvature(NamedTuple):
    """Loss of one animal, its gradient, and the Gauss–Newton matrix, for each kind of observations that is fitted.

    Attributes:
        observations: their number [kinds].
        loss: sum of their losses, as in `likelihood.Fit` [kinds].
        gradient: ∂loss/∂(directions of θ and shared unknowns, own unknowns) [kinds, unknowns].
        hessian: Jᵀ·diag(curvature)·J of the predictions [kinds, unknowns, unknowns].
    """

    observations: Float[Array, "*animals kinds"]
    loss: Float[Array, "*animals kinds"]
    gradient: Float[Array, "*animals kinds unknowns"]
    hessian: Float[Array, "*animals kinds unknowns unknowns"]


def network_of(learner: Any, theta: Theta, shared: Any, own: Any, task: RecordedTask) -> tuple[Any, Any]:
    """Context and initial state of the network of an animal under some values of the unknowns; nothing is drawn."""
    animal = learner.tasks.assume(task, shared, own)
    return learner.init(theta, jax.random.fold_in(run_key(0), task.number), animal)


def curvature_of(
    learner: Any,
    restore: Any,
    flat: Float[Array, " shared"],
    own: Float[Array, " own"],
    restore_own: Any,
    directions: Float[Array, "directions shared"],
    task: RecordedTask,
) -> Curvature:
    """Fit of one animal and its derivatives.

    Derivatives are propagated forward, one tangent of the network for each direction and each own unknown, and are
    summed over segments of the recording, so that memory does not grow with its length.

    Args:
        learner: a learner on recordings.
        restore: from a flat vector to (θ, shared unknowns).
        flat: that vector.
        own: unknowns of the animal as a flat vector.
        restore_own: from that vector to these unknowns.
        directions: directions of the flat vector; a direction of zeros has derivatives of 0.
        task: the animal.

    Returns:
        The fit, summed over the steps of a lifetime.

    References:
        Schraudolph 2002 (generalised Gauss–Newton matrix); Williams, Zipser 1989 (forward propagation).
    """
    kinds, count, steps = learner.tasks.fitted, directions.shape[0] + own.size, learner.steps

    def network(step: Float[Array, " directions"], own_step: Float[Array, " own"]) -> tuple[Any, Any, Any]:
        theta, shared = restore(flat + step @ directions)
        context, state = network_of(learner, theta, shared, restore_own(own + own_step), task)
        return theta, context.task.unknowns._replace(initial=()), state

    zeros, basis = jnp.zeros(directions.shape[0], flat.dtype), jnp.eye(count, dtype=flat.dtype)
    (theta, unknowns, state), derivative = jax.linearize(network, zeros, jnp.zeros_like(own))
    moving = jax.vmap(derivative)(basis[:, : zeros.size], basis[:, zeros.size :])
    context, _ = network_of(learner, theta, restore(flat)[1], restore_own(own), task)

    step = partial(_step, learner, context)

    def body(carry: tuple[Any, Any], t: Integer) -> tuple[tuple[Any, Any], Any]:
        state, tangents = carry
        (after, predicted), derivative = jax.linearize(partial(step, t=t), theta, unknowns, state)
        after_tangents, predicted_tangents = jax.vmap(derivative)(moving[0], moving[1], tangents)
        return (after, after_tangents), (predicted, predicted_tangents)

    def segment(carry: tuple[Any, Any, Curvature], ts: Array) -> tuple[Any, None]:
        state, tangents, total = carry
        (state, tangents), results = loop(body, (state, tangents), ts)
        observed = jax.vmap(lambda t: by_kind(learner.stimulus(context, t).observed))(ts)
        return (state, tangents, jax.tree.map(jnp.add, total, _summed(kinds, observed, *results))), None

    nothing = Curvature(*(jnp.zeros((len(kinds),) + (count,) * axes, flat.dtype) for axes in (0, 0, 1, 2)))
    length = _segment_length(steps, count, jax.eval_shape(lambda: step(theta, unknowns, state, 0)[1]))
    carry, filled = (state, moving[2], nothing), steps // length * length
    carry, _ = jax.lax.scan(segment, carry, jnp.arange(filled).reshape(-1, length))
    return (segment(carry, jnp.arange(filled, steps))[0] if filled < steps else carry)[2]


def _step(
    learner: Any, context: Any, theta: Theta, unknowns: Any, state: Any, t: Integer
) -> tuple[Any, dict[str, Array]]:
    """State after a step, and predictions of the kinds that are fitted."""
    animal = context.task._replace(unknowns=unknowns._replace(initial=context.task.unknowns.initial))
    here = context._replace(task=animal)
    after, response = learner.step(theta, here, state, learner.stimulus(here, t))
    predicted = by_kind(learner.tasks.predict(animal, state.weights, response))
    return after, {kind: predicted[kind] for kind in learner.tasks.fitted}


def _segment_length(steps: int, tangents: int, predicted: Any) -> int:
    """Steps of a segment: as many as memory allows."""
    size = tangents * sum(leaf.size for leaf in jax.tree.leaves(predicted))
    return max(min(steps, _SEGMENT // max(size, 1)), 1)


def _summed(kinds: tuple[str, ...], observed: Any, predicted: Any, tangents: Any) -> Curvature:
    """Sums over a segment, from arrays [steps, …] by kind; tangents are [steps, tangents, …]."""
    parts = []
    for kind in kinds:
        fit = fit_of(kind, predicted[kind], observed[kind])
        slopes = jnp.moveaxis(tangents[kind], 1, 0)
        rows = slopes.reshape(slopes.shape[0], -1)
        parts.append(
            Curvature(
                jnp.sum(fit.observed).astype(rows.dtype),
                jnp.sum(fit.loss),
                rows @ fit.slope.reshape(-1),
                (rows * fit.curvature.reshape(1, -1)) @ rows.T,
            )
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
