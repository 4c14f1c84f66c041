"""Evolution strategies: the slope of a smoothed meta-loss, from whole lifetimes under perturbed rules."""

from typing import Annotated, Any

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.perturbation import antithetic, draw, mean, slope
from metarule.lifetime.unroll import lifetime_loss
from metarule.types import Estimate, Learner, PRNGKey, Theta

__all__ = ["Evolution"]


class Evolution(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="evolution"):
    """θ-gradient of the Gaussian-smoothed meta-loss, from antithetic pairs of whole lifetimes.

    g = 1/(2σ²n) Σᵢ εᵢ · (loss(θ + u∘εᵢ) − loss(θ − u∘εᵢ)) / u,  εᵢ ~ N(0, σ²)

    All lives of an estimate have the same task, the same initial weights and the same order of step. Time of
    2·pairs forward passes, memory O(pairs · carry) whatever the length of the lifetime, and no derivative is needed; but
    the variance grows with |θ|/pairs. Pick it where the meta-loss is so rugged that its exact gradient is of no use,
    or has no gradient.

    The meta-loss and the scores that it reports are means over the perturbed lives.

    Attributes:
        sigma: σ, standard deviation of the perturbations, in units of θ.
        pairs: n, antithetic pairs of lifetimes.

    References:
        Rechenberg 1973; Salimans et al. 2017 (antithetic pairs); Metz et al. 2019 (smoothed meta-losses).
    """

    sigma: Annotated[float, Meta(gt=0, description="standard deviation of perturbations, in units of theta")] = 0.03
    pairs: Annotated[int, Meta(ge=1, le=100_000, description="antithetic pairs of lifetimes")] = 8

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs."""
        return 2 * self.pairs

    @property
    def whole(self) -> bool:
        """An estimate is of a whole lifetime."""
        return True

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> tuple[()]:
        """Nothing persists from one meta-step to the next."""
        return ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Smoothed meta-loss and its θ-gradient on one task.

        Args:
            learner: who lives.
            theta: θ.
            task: what they all live through.
            state: `()`.
            key: decides the perturbations and the fresh weights.

        Returns:
            (estimate, state).
        """
        lifetime_key, noise_key = jax.random.split(key)
        noise = draw(theta, noise_key, self.pairs, self.sigma)
        lived = jax.vmap(jax.vmap(lambda theta: lifetime_loss(learner, theta, task, lifetime_key)))
        losses, metrics = lived(antithetic(learner, theta, noise))
        return Estimate(mean(losses), slope(learner, losses, noise, self.sigma), mean(metrics)), state
