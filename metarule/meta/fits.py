"""Fits of θ and of the other unknowns to the recordings of animals."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from metarule.meta.curvature import Curvature, curvature_of, network_of
from metarule.meta.levenberg import Iterate, Penalty, Point, next_iterate, start_iterate
from metarule.parallel.batching import batch_lifetimes, default_chunk_size
from metarule.prng import run_key
from metarule.recordings.likelihood import GAUSSIAN
from metarule.recordings.tasks import RecordedTask
from metarule.types import Theta

__all__ = ["Settings", "Start", "evaluate", "fit_all", "fit_one", "floors"]
__all__ += ["own_unknowns", "start_point", "unflatten"]

# Noise that is always there, as a share of the standard deviation of the observations: rounding.
_FLOOR = 1e-9


class Settings(NamedTuple):
    """Settings of fits.

    Attributes:
        penalty: penalty on θ.
        damping: λ of the first step.
        tolerance: change of the objective, in nats, at which a fit ends.
        steps: most evaluations.
    """

    penalty: Penalty
    damping: Float[Array, ""] | float
    tolerance: Float[Array, ""] | float
    steps: Int[Array, ""] | int


class Start(NamedTuple):
    """Start of one fit, or of many along a leading axis.

    Attributes:
        point: first point.
        directions: directions in which the shared unknowns move; those of zeros are not used.
        weights: weight of each animal.
    """

    point: Point
    directions: Float[Array, "*fits directions shared"]
    weights: Float[Array, "*fits animals"]


def unflatten(learner: Any, shared: Float[Array, " shared"]) -> tuple[Theta, Any]:
    """Return (θ, shared unknowns) of a flat vector."""
    return _restore_shared(learner)(shared)


@partial(jax.jit, static_argnames="learner")
def start_point(learner: Any, theta: Theta, animals: RecordedTask) -> Point:
    """Point with a θ and the first values of the other unknowns.

    Args:
        learner: a learner on recordings.
        theta: θ.
        animals: animals, along a leading axis.
    """
    shared, _ = ravel_pytree((theta, learner.tasks.shared_unknowns()))
    own = jax.vmap(lambda task: ravel_pytree(_first_own(learner, theta, task))[0])(animals)
    return Point(shared, own.astype(shared.dtype))


def own_unknowns(learner: Any, theta: Theta, task: RecordedTask, own: Float[Array, " own"]) -> Any:
    """Unknowns of an animal from a flat vector."""
    return ravel_pytree(_first_own(learner, theta, task))[1](own)


def floors(learner: Any) -> Float[Array, " kinds"]:
    """Variance of the noise that is always there, by kind."""
    tasks = learner.tasks
    return jnp.array([(_FLOOR * tasks.deviations[kind]) ** 2 if kind in GAUSSIAN else 0.0 for kind in tasks.fitted])


def evaluate(
    learner: Any, animals: RecordedTask, directions: Float[Array, "directions shared"], point: Point
) -> Curvature:
    """Fit of each animal at a point, and its derivatives.

    Args:
        learner: a learner on recordings.
        animals: animals, along a leading axis.
        directions: directions of the shared unknowns.
        point: values of the unknowns.
    """
    restore, tangents = _restore_shared(learner), directions.shape[0] + point.own.shape[1]
    first = jax.tree.map(lambda leaf: leaf[0], animals)
    theta, shared = restore(point.shared)

    def one(own: Float[Array, " own"], task: RecordedTask) -> Curvature:
        restore_own = ravel_pytree(_first_own(learner, theta, task))[1]
        return curvature_of(learner, restore, point.shared, own, restore_own, directions, task)

    own = _first_own(learner, theta, first)
    state = jax.eval_shape(lambda: network_of(learner, theta, shared, own, first)[1])
    many = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((tangents + 1, *leaf.shape), leaf.dtype), state)
    return batch_lifetimes(one, default_chunk_size(many))(point.own, animals)


def fit_one(learner: Any, animals: RecordedTask, start: Start, settings: Settings) -> Iterate:
    """Fit until the objective changes no more; arguments as of `fit_all`."""
    kinds, directions = learner.tasks.fitted, start.directions
    step = partial(
        next_iterate,
        evaluate=partial(evaluate, learner, animals, directions),
        kinds=kinds,
        directions=directions,
        weights=start.weights,
        floor=floors(learner),
        penalty=settings.penalty,
        tolerance=settings.tolerance,
    )

    def is_open(iterate: Iterate) -> Array:
        return ~iterate.done & (iterate.steps < settings.steps)

    return jax.lax.while_loop(is_open, step, start_iterate(start.point, directions, len(kinds), settings.damping))


@partial(jax.jit, static_argnames=("learner", "chunk_size"))
def fit_all(learner: Any, animals: RecordedTask, starts: Start, settings: Settings, chunk_size: int) -> Iterate:
    """Fit from each of many starts.

    Args:
        learner: a learner on recordings.
        animals: all animals.
        starts: one a fit, along a leading axis.
        settings: of all fits.
        chunk_size: fits that are computed at once on a device.

    Returns:
        Last states of the fits, along a leading axis.
    """

    def one(start: Start) -> Iterate:
        return fit_one(learner, animals, start, settings)

    return batch_lifetimes(one, chunk_size)(starts)


def _restore_shared(learner: Any) -> Any:
    shapes = jax.eval_shape(lambda: (learner.init_theta(run_key(0)), learner.tasks.shared_unknowns()))
    return ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))[1]


def _first_own(learner: Any, theta: Theta, task: RecordedTask) -> Any:
    """First values of the unknowns of an animal."""
    _, state = network_of(learner, theta, learner.tasks.shared_unknowns(), (), task)
    return learner.tasks.own_unknowns(task, state.weights)
