"""Levenberg–Marquardt steps on what animals share and on what each has of its own."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metarule.lifetime.unroll import either
from metarule.meta.curvature import Curvature
from metarule.recordings.likelihood import GAUSSIAN

__all__ = ["Iterate", "Penalty", "Point", "Reduced", "next_iterate", "reduce_own", "start_iterate", "variances"]

# Damping after an accepted and after a rejected step, as factors; its limits.
_ACCEPTED, _REJECTED, _LEAST, _MOST = 0.15, 6.0, 1e-12, 1e9
# Damping up to which a small change of the objective means that the optimum is near.
_FREE = 1.0
# Share of its diagonal that is added to a matrix where it is inverted, in units of the precision.
_RIDGE = 500
# Distance from 0, in the parameter scale, from which the slope of |θ| is 1.
_ROUND = 1e-4


class Point(NamedTuple):
    """Values of the unknowns.

    Attributes:
        shared: θ and the unknowns that all animals share [shared].
        own: unknowns of each animal [animals, own].
    """

    shared: Float[Array, " shared"]
    own: Float[Array, "animals own"]


class Penalty(NamedTuple):
    """Penalty on θ, −ln of a prior: ridge/2·Σ(θ/scale)² + l1·Σ|θ|/scale.

    Attributes:
        ridge: coefficient by entry of the shared unknowns, divided by the squared scale [shared].
        l1: likewise, divided by the scale [shared].
        scale: parameter scale [shared], where l1 is not 0.
    """

    ridge: Float[Array, " shared"]
    l1: Float[Array, " shared"]
    scale: Float[Array, " shared"] | float = 1.0


class Iterate(NamedTuple):
    """State of a fit.

    Attributes:
        point: best point so far.
        curvature: fit of each animal there, and its derivatives.
        objective: −ln posterior there, but for constants; infinite before the first evaluation.
        proposal: next point to evaluate.
        damping: λ of the next step.
        steps: evaluations so far.
        done: true if the objective changes no more.
    """

    point: Point
    curvature: Curvature
    objective: Float[Array, ""]
    proposal: Point
    damping: Float[Array, ""]
    steps: Int[Array, ""]
    done: Bool[Array, ""]


def start_iterate(
    point: Point, directions: Float[Array, "directions shared"], kinds: int, damping: Float[Array, ""] | float
) -> Iterate:
    """State before the first evaluation, which is that of a point.

    Args:
        point: first point.
        directions: directions in which the shared unknowns move.
        kinds: number of kinds of observations.
        damping: λ of the first step.
    """
    animals, own = point.own.shape
    shape, count = (animals, kinds), directions.shape[0] + own
    zeros = [jnp.zeros(shape + (count,) * axes, point.shared.dtype) for axes in (0, 0, 1, 2)]
    infinite = jnp.asarray(jnp.inf, point.shared.dtype)
    start = jnp.asarray(damping, point.shared.dtype)
    return Iterate(point, Curvature(*zeros), infinite, point, start, jnp.zeros((), int), jnp.zeros((), bool))


def next_iterate(
    iterate: Iterate,
    evaluate: Callable[[Point], Curvature],
    kinds: tuple[str, ...],
    directions: Float[Array, "directions shared"],
    weights: Float[Array, " animals"],
    floor: Float[Array, " kinds"],
    penalty: Penalty,
    tolerance: Float[Array, ""] | float,
) -> Iterate:
    """Evaluate the proposal, accept it if it is better, and propose the next point.

    (H + λ·diag H)·δ = −g; the own unknowns of each animal are eliminated first.

    Args:
        iterate: the state.
        evaluate: fit of each animal at a point, and its derivatives.
        kinds: kinds of observations.
        directions: directions in which the shared unknowns move.
        weights: weight of each animal; those of weight 0 fit their own unknowns only.
        floor: variance of noise that is always there, by kind.
        penalty: penalty on θ.
        tolerance: change of the objective, in nats, below which the fit is done.

    Returns:
        The next state; its best point is never worse than that before.

    References:
        Levenberg 1944; Marquardt 1963; Moré 1978.
    """
    curvature = evaluate(iterate.proposal)
    objective = _objective(kinds, curvature, weights, floor) + _penalty(penalty, iterate.proposal.shared)
    objective = jnp.where(jnp.isfinite(objective), objective, jnp.inf)
    is_better = objective < iterate.objective
    is_close = (jnp.abs(iterate.objective - objective) < tolerance) & (iterate.damping <= _FREE)
    point, curvature = either(is_better, (iterate.proposal, curvature), (iterate.point, iterate.curvature))
    damping = jnp.clip(iterate.damping * jnp.where(is_better, _ACCEPTED, _REJECTED), _LEAST, _MOST)
    proposal = _propose(point, curvature, kinds, directions, weights, floor, penalty, damping)
    failed = jnp.isinf(iterate.objective) & ~is_better
    return Iterate(
        point=point,
        curvature=curvature,
        objective=jnp.minimum(objective, iterate.objective),
        proposal=proposal,
        damping=damping,
        steps=iterate.steps + 1,
        done=is_close | (damping >= _MOST) | failed,
    )


def variances(
    kinds: tuple[str, ...],
    curvature: Curvature,
    weights: Float[Array | np.ndarray, " animals"],
    floor: Float[Array | np.ndarray, " kinds"],
) -> Float[Array, " kinds"]:
    """Variance of the noise of each Gaussian kind under which the fit is most likely; 1 for choices.

    Args:
        kinds: kinds of observations.
        curvature: of each animal.
        weights: weight of each animal.
        floor: variance of noise that is always there, by kind.
    """
    mean = 2 * _total(weights, curvature.loss) / jnp.maximum(_total(weights, curvature.observations), 1)
    is_gaussian = jnp.array([kind in GAUSSIAN for kind in kinds])
    return jnp.where(is_gaussian, mean + floor, 1.0)


class Reduced(NamedTuple):
    """Gradient and curvature of each animal without its own unknowns, which follow the shared ones.

    Attributes:
        gradient: [animals, directions].
        hessian: [animals, directions, directions].
        offset: step of the own unknowns at a shared step of 0 [animals, own].
        slope: derivative of that step by the shared step [animals, own, directions].
    """

    gradient: Float[Array, "animals directions"]
    hessian: Float[Array, "animals directions directions"]
    offset: Float[Array, "animals own"]
    slope: Float[Array, "animals own directions"]


def reduce_own(
    curvature: Curvature, variance: Float[Array, " kinds"], directions: int, damping: Float[Array, ""] | float = 0.0
) -> Reduced:
    """Eliminate the own unknowns of each animal (Schur complement).

    Args:
        curvature: of each animal.
        variance: of the noise, by kind.
        directions: number of directions of the shared unknowns, which come first.
        damping: λ for the own unknowns.
    """
    gradient = jnp.einsum("aku,k->au", curvature.gradient, 1 / variance)
    hessian = jnp.einsum("akuv,k->auv", curvature.hessian, 1 / variance)
    shared, cross = hessian[:, :directions, :directions], hessian[:, :directions, directions:]
    if gradient.shape[1] == directions:
        return Reduced(gradient, shared, gradient[:, directions:], jnp.moveaxis(cross, 1, 2))
    right = jnp.concatenate([gradient[:, directions:, None], jnp.moveaxis(cross, 1, 2)], axis=2)
    solved = jax.vmap(_solve, (0, 0, None))(hessian[:, directions:, directions:], right, damping)
    offset, slope = -solved[:, :, 0], -solved[:, :, 1:]
    reduced = gradient[:, :directions] + jnp.einsum("ado,ao->ad", cross, offset)
    return Reduced(reduced, shared + cross @ slope, offset, slope)


def _solve(
    matrix: Float[Array, "n n"], right: Float[Array, "n m"], damping: Float[Array, ""] | float
) -> Float[Array, "n m"]:
    """Solve (H + λ·diag H)·x = b; an unknown without curvature stays where it is."""
    diagonal = jnp.diag(matrix)
    size = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0))
    scaled = matrix / size[:, None] / size[None, :]
    fill = jnp.where(diagonal > 0, damping + _RIDGE * jnp.finfo(matrix.dtype).eps, 1.0)
    factor = jnp.linalg.cholesky(scaled + jnp.diag(fill))
    solved = jax.scipy.linalg.cho_solve((factor, True), right / size[:, None])
    return jnp.where(diagonal[:, None] > 0, solved / size[:, None], 0.0)


def _propose(
    point: Point,
    curvature: Curvature,
    kinds: tuple[str, ...],
    directions: Float[Array, "directions shared"],
    weights: Float[Array, " animals"],
    floor: Float[Array, " kinds"],
    penalty: Penalty,
    damping: Float[Array, ""],
) -> Point:
    variance = variances(kinds, curvature, weights, floor)
    reduced = reduce_own(curvature, variance, directions.shape[0], damping)
    strength = penalty.ridge + penalty.l1 / (jnp.abs(point.shared) + _ROUND * penalty.scale)
    gradient = _total(weights, reduced.gradient) + directions @ (strength * point.shared)
    hessian = _total(weights, reduced.hessian) + (directions * strength[None]) @ directions.T
    step = -_solve(hessian, gradient[:, None], damping)[:, 0]
    own = reduced.offset + reduced.slope @ step
    # An animal of weight 0 whose network diverges stays where it is.
    own = jnp.where(jnp.all(jnp.isfinite(own), axis=1, keepdims=True), own, 0.0)
    return Point(point.shared + step @ directions, point.own + own)


def _objective(
    kinds: tuple[str, ...], curvature: Curvature, weights: Float[Array, " animals"], floor: Float[Array, " kinds"]
) -> Float[Array, ""]:
    """−ln likelihood, with the most likely variances, but for constants."""
    variance = variances(kinds, curvature, weights, floor)
    is_gaussian = jnp.array([kind in GAUSSIAN for kind in kinds])
    gaussian = _total(weights, curvature.observations) * jnp.log(variance) / 2
    return jnp.sum(jnp.where(is_gaussian, gaussian, _total(weights, curvature.loss)))


def _total(
    weights: Float[Array | np.ndarray, " animals"], values: Float[Array | np.ndarray, "animals *n"]
) -> Float[Array, "*n"]:
    """Weighted sum over animals, in which those of weight 0 do not count even if their networks diverge."""
    used = jnp.where(weights.reshape(-1, *(1,) * (values.ndim - 1)) > 0, values, 0.0)
    return jnp.tensordot(weights, used, axes=1)


def _penalty(penalty: Penalty, shared: Float[Array, " shared"]) -> Float[Array, ""]:
    return jnp.sum(penalty.ridge * shared**2 / 2 + penalty.l1 * jnp.abs(shared))
