"""Persistent evolution strategies: windows of the lifetime, without the bias of truncation."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.perturbation import antithetic, draw, mean, slope
from metarule.estimators.windows import RunningLifetime, continue_or_restart, ended_lifetime, is_over
from metarule.lifetime.unroll import segment_loss
from metarule.types import Estimate, Learner, LearnerState, Metrics, PRNGKey, Theta

__all__ = ["Persistent", "Perturbed"]


class Perturbed(NamedTuple):
    """One life, lived by antithetic pairs of networks that go on from one meta-step to the next.

    Attributes:
        ongoing: the lifetime so far; its carry has leading axes [pairs, 2].
        moved: sum of the perturbations that each pair has met in this lifetime, in units of θ; the second of a pair met
            their opposites.
    """

    ongoing: RunningLifetime
    moved: Float[Array, "pairs numbers"]


class Persistent(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="persistent"):
    """θ-gradient of the smoothed meta-loss from a window of the lifetime at a time, unbiased though it is truncated.

    ξᵢ ← ξᵢ + εᵢ,  g = 1/(2σ²n) Σᵢ ξᵢ · (loss_window(θ + u∘εᵢ) − loss_window(θ − u∘εᵢ)) / u,  εᵢ ~ N(0, σ²)

    Each network of a pair lives on in its own way, and ξ, the sum of all perturbations since its birth, credits them
    for what they do later: over a lifetime with θ at rest the windows' estimates sum, in expectation, to the gradient of
    the whole lifetime's meta-loss, smoothed by a perturbation a window. Time of 2·pairs forward passes over `window`
    steps, memory O(pairs · carry), kept between meta-steps; the variance grows with the number of windows.
    Pick it for lives that are too long to wait for, and whose effects are too long for `truncated`.

    The meta-loss that it reports is that of the window, and the scores are those of the networks as it ends, both as
    means over the pairs. A life in which a network diverges gives way to a new one.

    Attributes:
        window: steps lived in a meta-step; the last window of a lifetime is shorter where it is no divisor.
        staggered: the first lifetime begins at a window drawn at random, as in `truncated`.
        sigma: σ, standard deviation of the perturbations, in units of θ.
        pairs: n, antithetic pairs of networks.

    References:
        Vicol, Metz, Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent
        Evolution Strategies".
    """

    window: Annotated[int, Meta(ge=1, le=10_000_000, description="steps lived in a meta-step")] = 50
    staggered: Annotated[bool, Meta(description="first lifetimes begin at random windows, not to end all at once")] = (
        True
    )
    sigma: Annotated[float, Meta(gt=0, description="standard deviation of perturbations, in units of theta")] = 0.03
    pairs: Annotated[int, Meta(ge=1, le=100_000, description="antithetic pairs of networks")] = 8

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs, at most."""
        return 2 * self.pairs

    @property
    def whole(self) -> bool:
        """An estimate is of a window of a lifetime."""
        return False

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Perturbed:
        """Lifetimes that are over, and where the next one begins."""
        ongoing = ended_lifetime(learner, self.window, self.staggered, key, self._copies)
        return Perturbed(ongoing, jnp.zeros_like(draw(theta, key, self.pairs, self.sigma)))

    def estimate(
        self, learner: Learner, theta: Theta, task: Any, state: Perturbed, key: PRNGKey
    ) -> tuple[Estimate, Perturbed]:
        """Smoothed meta-loss of the next window and its θ-gradient.

        Args:
            learner: who lives.
            theta: θ.
            task: what the next life is lived through, if one begins.
            state: the lifetime so far.
            key: decides the perturbations, and the fresh weights of a lifetime that begins.

        Returns:
            (estimate, the lifetime after the window).
        """
        lifetime_key, noise_key = jax.random.split(key)
        now = continue_or_restart(learner, state.ongoing, task, lifetime_key, self._copies)
        noise = draw(theta, noise_key, self.pairs, self.sigma)
        moved = jnp.where(is_over(learner, state.ongoing), 0.0, state.moved) + noise

        def lived(theta: Theta, learner_state: LearnerState) -> tuple[Float[Array, ""], tuple[LearnerState, Metrics]]:
            return segment_loss(learner, theta, now.context, learner_state, now.t, self.window)

        losses, (learner_state, metrics) = jax.vmap(jax.vmap(lived))(antithetic(learner, theta, noise), now.state)
        estimate = Estimate(mean(losses), slope(learner, losses, moved, self.sigma), mean(metrics))
        return estimate, Perturbed(now._replace(state=learner_state, t=now.t + self.window), moved)

    @property
    def _copies(self) -> tuple[int, int]:
        return (self.pairs, 2)
