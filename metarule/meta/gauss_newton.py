"""Gauss–Newton fit of θ to recordings, damped as by Levenberg and Marquardt."""

from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.meta.fits import Settings, Start, evaluate, fit_one, floors, start_point, unflatten
from metarule.meta.levenberg import Iterate, Penalty, Point, next_iterate, start_iterate
from metarule.prng import run_key
from metarule.protocols import Learner, Recorded
from metarule.recordings.tasks import RecordedTask
from metarule.tasks.subsets import Selected
from metarule.types import LOGITS, Info, PRNGKey, Theta

__all__ = ["GaussNewton", "GaussNewtonState"]

# Most unknowns of a fit, whose matrix is stored for each animal.
_MOST_UNKNOWNS = 3000


class GaussNewtonState(NamedTuple):
    """State of a fit, and its θ."""

    theta: Theta
    fit: Iterate


class GaussNewton(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="gauss_newton"):
    """Fit θ to recordings by Gauss–Newton steps, damped as by Levenberg and Marquardt.

    (H + λ·diag H)·δ = −g,  g = Σ ∂(−ln L)/∂θ,  H = Σ Jᵀ·diag(∂²(−ln L)/∂prediction²)·J

    Sums are over all steps of all animals, J is the exact derivative of the predictions. The variances of the noise are
    those under which the recordings are most likely. What tasks leave open is fitted with θ: initial weights of each
    animal, the readout, the decay of the average reward. It finds θ exactly where gradient descent stalls, for up to
    some 300 parameters.

    Attributes:
        steps: most evaluations of the fit, one a meta-step; it ends earlier at the optimum.
        damping: λ of the first step.
        tolerance: change of −ln L, in nats, below which the fit ends.
        ridge: strength of a Gaussian prior, −ln p(θ) = ridge/2·Σ(θ/scale)²; 0 for none.
        l1: strength of a Laplace prior, −ln p(θ) = l1·Σ|θ|/scale, under which terms are left out; the others are
            fitted anew without it. 0 for none. Neither prior is on the logits of decays.

    References:
        Levenberg 1944; Marquardt 1963; Schraudolph 2002 (choices: generalised Gauss–Newton matrix); Tibshirani 1996.
    """

    steps: Annotated[int, Meta(ge=1, le=100_000)] = 60
    damping: Annotated[float, Meta(gt=0)] = 1e-3
    tolerance: Annotated[float, Meta(gt=0)] = 1e-6
    ridge: Annotated[float, Meta(ge=0)] = 0.0
    l1: Annotated[float, Meta(ge=0)] = 0.0
    # Each meta-step computes a recording of each animal, however many there are.
    batch_size: ClassVar[int] = 1

    def check(self, learner: Learner) -> None:
        """Refuse a learner that cannot be fitted.

        Raises:
            ValueError: tasks that are no recordings, or too many unknowns.
        """
        if not isinstance(learner.tasks, Recorded):
            kind = type(learner.tasks).__name__
            raise ValueError(f"optimizer.kind = 'gauss_newton': it fits recordings, and tasks are {kind}")
        point = jax.eval_shape(partial(_first_point, learner), run_key(0))
        shared, own = point.shared.size, point.own.shape[1]
        if shared + own > _MOST_UNKNOWNS:
            raise ValueError(
                f"optimizer.kind = 'gauss_newton': {shared} shared unknowns and {own} of each animal; allowed: "
                f"{_MOST_UNKNOWNS} in all, or kind = gradient with known initial weights"
            )

    def settings(self, learner: Learner) -> Settings:
        """Settings of further fits with this optimiser."""
        size = jax.eval_shape(partial(_first_point, learner), run_key(0)).shared.size
        inverse, _ = ravel_pytree(jax.tree_util.tree_map_with_path(_inverse_scale, learner.theta_scale()))
        inverse = jnp.zeros(size).at[: inverse.size].set(inverse)
        scale = 1 / jnp.where(inverse > 0, inverse, 1.0)
        penalty = Penalty(self.ridge * inverse**2, self.l1 * inverse, scale)
        return Settings(penalty, self.damping, self.tolerance, self.steps)

    def init(self, learner: Any, pool: RecordedTask | Selected, theta: Theta, key: PRNGKey) -> GaussNewtonState:
        """State before the first meta-step; unknowns of single animals are fitted alone first, or θ may be stuck."""
        animals, weights = _animals_of(pool)
        point = start_point(learner, theta, animals)
        if point.own.shape[1]:
            alone = Start(point, jnp.zeros((1, point.shared.size)), weights)
            point = fit_one(learner, animals, alone, self.settings(learner)).point
        directions, kinds = jnp.eye(point.shared.size), len(learner.tasks.fitted)
        return GaussNewtonState(theta, start_iterate(point, directions, kinds, self.damping))

    def step(
        self, learner: Any, pool: RecordedTask | Selected, state: GaussNewtonState, key: PRNGKey
    ) -> tuple[GaussNewtonState, Info]:
        """Evaluate the proposal on all animals of a pool, and propose the next point; a finished fit stays."""
        before, settings, (animals, weights) = state.fit, self.settings(learner), _animals_of(pool)
        directions = jnp.eye(before.point.shared.size)
        move = partial(
            next_iterate,
            evaluate=partial(evaluate, learner, animals, directions),
            kinds=learner.tasks.fitted,
            directions=directions,
            weights=weights,
            floor=floors(learner),
            penalty=settings.penalty,
            tolerance=self.tolerance,
        )
        after = jax.lax.cond(before.done, lambda fit: fit, move, before)
        theta, _ = unflatten(learner, after.point.shared)
        none = jnp.zeros((), int)
        info = Info(
            loss=after.objective / jnp.maximum(jnp.sum(weights @ after.curvature.observations), 1),
            metrics={},
            observed={"damping": after.damping},
            lifetimes=jnp.sum(weights).astype(int),
            nonfinite_lifetimes=none,
            zero_gradient_lifetimes=none,
            rejected=~(after.objective < before.objective) & ~before.done,
            theta=theta,
        )
        return GaussNewtonState(theta, after), info

    def theta(self, state: GaussNewtonState) -> Theta:
        """θ of a state."""
        return state.theta


def _animals_of(pool: RecordedTask | Selected) -> tuple[RecordedTask, Float[Array, " animals"]]:
    """Animals of a pool, and their weights: 0 for those that are not selected."""
    if not isinstance(pool, Selected):
        return pool, jnp.ones(pool.number.shape[0])
    count = pool.pool.number.shape[0]
    return pool.pool, jnp.zeros(count).at[pool.numbers % count].set(1.0)


def _inverse_scale(path: tuple[Any, ...], scale: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Inverse of the parameter scale; 0 for logits of decays, which have no prior."""
    return jnp.zeros_like(scale) if LOGITS in path else 1 / scale


def _first_point(learner: Any, key: PRNGKey) -> Point:
    """First point of a fit to the training animals of one split."""
    return start_point(learner, learner.init_theta(key), learner.tasks.split(0).train)
