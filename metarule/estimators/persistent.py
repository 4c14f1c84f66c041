"""Persistent evolution strategies: windows of the life, without the bias of truncation."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.perturbation import antithetic, draw, mean, slope
from metarule.estimators.windows import Ongoing, is_over, renewed, waiting
from metarule.lifetime.unroll import stretch
from metarule.types import Carry, Estimate, Learner, Metrics, PRNGKey, Theta

__all__ = ["Persistent", "Perturbed"]


class Perturbed(NamedTuple):
    """One life, lived by antithetic pairs of networks that go on from one meta-step to the next.

    Attributes:
        ongoing: the life so far; its carry has leading axes [pairs, 2].
        moved: sum of the perturbations that each pair has met in this life, in units of θ; the second of a pair met
            their opposites.
    """

    ongoing: Ongoing
    moved: Float[Array, "pairs numbers"]


class Persistent(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="persistent"):
    """θ-gradient of the smoothed meta-loss from a window of the life at a time, unbiased though it is truncated.

    ξᵢ ← ξᵢ + εᵢ,  g = 1/(2σ²n) Σᵢ ξᵢ · (loss_window(θ + u∘εᵢ) − loss_window(θ − u∘εᵢ)) / u,  εᵢ ~ N(0, σ²)

    Each network of a pair lives on in its own way, and ξ, the sum of all perturbations since its birth, credits them
    for what they do later: over a life with θ at rest the windows' estimates sum, in expectation, to the gradient of
    the whole life's meta-loss, smoothed by a perturbation a window. Time of 2·pairs forward passes over `window`
    presentations, memory O(pairs · carry), kept between meta-steps; the variance grows with the number of windows.
    Pick it for lives that are too long to wait for, and whose effects are too long for `truncated`.

    The meta-loss that it reports is that of the window, and the scores are those of the networks as it ends, both as
    means over the pairs. A life in which a network diverges gives way to a new one.

    Attributes:
        window: presentations lived in a meta-step; the last window of a life is shorter where it is no divisor.
        staggered: the first life begins at a window drawn at random, as in `truncated`.
        sigma: σ, standard deviation of the perturbations, in units of θ.
        pairs: n, antithetic pairs of networks.

    References:
        Vicol, Metz, Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent
        Evolution Strategies".
    """

    window: Annotated[int, Meta(ge=1, le=10_000_000, description="presentations lived in a meta-step")] = 50
    staggered: Annotated[bool, Meta(description="first lives begin at random windows, not to end all at once")] = True
    sigma: Annotated[float, Meta(gt=0, description="standard deviation of perturbations, in units of theta")] = 0.03
    pairs: Annotated[int, Meta(ge=1, le=100_000, description="antithetic pairs of networks")] = 8

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs, at most."""
        return 2 * self.pairs

    @property
    def whole(self) -> bool:
        """An estimate is of a window of a life."""
        return False

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> Perturbed:
        """Lives that are over, and where the next one begins."""
        ongoing = waiting(learner, self.window, self.staggered, key, self._copies)
        return Perturbed(ongoing, jnp.zeros_like(draw(theta, key, self.pairs, self.sigma)))

    def estimate(
        self, learner: Learner, theta: Theta, task: Any, state: Perturbed, key: PRNGKey
    ) -> tuple[Estimate, Perturbed]:
        """Smoothed meta-loss of the next window and its θ-gradient.

        Args:
            learner: who lives.
            theta: θ.
            task: what the next life is lived through, if one begins.
            state: the life so far.
            key: decides the perturbations, and the fresh weights of a life that begins.

        Returns:
            (estimate, the life after the window).
        """
        life_key, noise_key = jax.random.split(key)
        now = renewed(learner, state.ongoing, task, life_key, self._copies)
        noise = draw(theta, noise_key, self.pairs, self.sigma)
        moved = jnp.where(is_over(learner, state.ongoing), 0.0, state.moved) + noise

        def lived(theta: Theta, carry: Carry) -> tuple[Float[Array, ""], tuple[Carry, Metrics]]:
            return stretch(learner, theta, now.life, carry, now.time, self.window)

        losses, (carry, metrics) = jax.vmap(jax.vmap(lived))(antithetic(learner, theta, noise), now.carry)
        estimate = Estimate(mean(losses), slope(learner, losses, moved, self.sigma), mean(metrics))
        return estimate, Perturbed(now._replace(carry=carry, time=now.time + self.window), moved)

    @property
    def _copies(self) -> tuple[int, int]:
        return (self.pairs, 2)
