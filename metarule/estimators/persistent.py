"""Persistent evolution strategies: windows of the lifetime without the bias of truncation."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.base import check_estimator
from metarule.estimators.perturbation import antithetic, draw, gradient, mean
from metarule.estimators.windows import RunningLifetime, continue_or_restart, ended_lifetime, is_over
from metarule.lifetime.unroll import segment_loss
from metarule.protocols import Learner
from metarule.types import Estimate, LearnerState, Metrics, PRNGKey, Theta

__all__ = ["Persistent", "Perturbed"]


class Perturbed(NamedTuple):
    """A lifetime run by antithetic pairs of networks that continue from one meta-step to the next.

    Attributes:
        lifetime: the lifetime so far; its state has leading axes [pairs, 2].
        moved: sum of the perturbations of each pair in this lifetime, in multiples of the parameter scale; those of the
            second network are opposite.
    """

    lifetime: RunningLifetime
    moved: Float[Array, "pairs parameters"]


class Persistent(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="persistent"):
    """θ-gradient of the smoothed meta-loss from one window of the lifetime at a time, without bias.

    ξᵢ ← ξᵢ + εᵢ,  g = 1/(2σ²n) Σᵢ ξᵢ · (loss_window(θ + scale∘εᵢ) − loss_window(θ − scale∘εᵢ)) / scale,  εᵢ ~ N(0, σ²)

    Each network of a pair continues separately. ξ, the sum of all perturbations since the start, credits them for late
    effects: with constant θ the estimates of the windows sum, in expectation, to the gradient of the meta-loss of the
    lifetime, smoothed by one perturbation a window. Time of 2·pairs forward passes over `window` steps, memory
    O(pairs · state), kept between meta-steps; the variance grows with the number of windows. Use it for lifetimes that
    are too long to wait for, and whose effects are too long for `truncated`.

    The reported meta-loss is that of the window, and the metrics are those at its end, as means over the pairs. A
    lifetime in which a network diverges is replaced by a new one.

    Attributes:
        window: steps of a meta-step; the last window of a lifetime may be shorter.
        staggered: the first lifetime begins at a random window, as in `truncated`.
        sigma: σ, standard deviation of the perturbations, in multiples of the parameter scale.
        pairs: n, antithetic pairs of networks.

    References:
        Vicol, Metz, Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent
        Evolution Strategies".
    """

    window: Annotated[int, Meta(ge=1, le=10_000_000)] = 50
    staggered: bool = True
    sigma: Annotated[float, Meta(gt=0)] = 0.03
    pairs: Annotated[int, Meta(ge=1, le=100_000)] = 8

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Perturbed:
        """Make lifetimes that are over, with the start of the next ones; refuse learned initial weights."""
        check_estimator(self, learner)
        lifetime = ended_lifetime(learner, theta, self.window, self.staggered, key, self._copies)
        return Perturbed(lifetime, jnp.zeros_like(draw(theta, key, self.pairs, self.sigma)))

    def estimate(
        self, learner: Learner, theta: Theta, task: Any, state: Perturbed, key: PRNGKey
    ) -> tuple[Estimate, Perturbed]:
        """Estimate the smoothed meta-loss of the next window and its θ-gradient.

        The task is that of the next lifetime, if one begins. The key decides the perturbations and its fresh weights.
        """
        lifetime_key, noise_key = jax.random.split(key)
        now = continue_or_restart(learner, theta, state.lifetime, task, lifetime_key, self._copies)
        noise = draw(theta, noise_key, self.pairs, self.sigma)
        moved = jnp.where(is_over(learner, state.lifetime), 0.0, state.moved) + noise

        def window(theta: Theta, state: LearnerState) -> tuple[Float[Array, ""], tuple[LearnerState, Metrics]]:
            return segment_loss(learner, theta, now.context, state, now.t, self.window)

        losses, (after, metrics) = jax.vmap(jax.vmap(window))(antithetic(learner, theta, noise), now.state)
        estimate = Estimate(mean(losses), gradient(learner, losses, moved, self.sigma), mean(metrics))
        return estimate, Perturbed(now._replace(state=after, t=now.t + self.window), moved)

    @property
    def _copies(self) -> tuple[int, int]:
        return (self.pairs, 2)
