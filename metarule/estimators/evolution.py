"""Evolution strategies: the gradient of a smoothed meta-loss, from lifetimes under perturbed rules."""

from typing import Annotated, Any

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.perturbation import antithetic, draw, gradient, mean
from metarule.lifetime.unroll import lifetime_loss
from metarule.protocols import Learner
from metarule.types import Estimate, PRNGKey, Theta

__all__ = ["Evolution"]


class Evolution(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="evolution"):
    """θ-gradient of the Gaussian-smoothed meta-loss, from antithetic pairs of lifetimes.

    g = 1/(2σ²n) Σᵢ εᵢ · (loss(θ + scale∘εᵢ) − loss(θ − scale∘εᵢ)) / scale,  εᵢ ~ N(0, σ²)

    All lifetimes of an estimate have the same task, initial weights and order of stimuli. Time of 2·pairs forward
    passes, memory O(pairs · state) whatever the length of the lifetime, and no derivative is needed; the variance grows
    with |θ|/pairs. Use it where the meta-loss is too rugged for its exact gradient, or has none.

    The reported meta-loss and metrics are means over the perturbed lifetimes.

    Attributes:
        sigma: σ, standard deviation of the perturbations, in multiples of the parameter scale.
        pairs: n, antithetic pairs of lifetimes.

    References:
        Rechenberg 1973; Salimans et al. 2017 (antithetic pairs); Metz et al. 2019 (smoothed meta-losses).
    """

    sigma: Annotated[float, Meta(gt=0)] = 0.03
    pairs: Annotated[int, Meta(ge=1, le=100_000)] = 8

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> tuple[()]:
        """No state."""
        return ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimate the smoothed meta-loss and its θ-gradient; the key decides the perturbations and fresh weights."""
        lifetime_key, noise_key = jax.random.split(key)
        noise = draw(theta, noise_key, self.pairs, self.sigma)
        run = jax.vmap(jax.vmap(lambda theta: lifetime_loss(learner, theta, task, lifetime_key)))
        losses, metrics = run(antithetic(learner, theta, noise))
        return Estimate(mean(losses), gradient(learner, losses, noise, self.sigma), mean(metrics)), state
