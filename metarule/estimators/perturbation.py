"""What estimators that perturb θ share: noise in units of θ, and the slope that antithetic pairs tell."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from metarule.types import Learner, PRNGKey, Theta

__all__ = ["antithetic", "draw", "mean", "slope"]


def draw(theta: Theta, key: PRNGKey, pairs: int, sigma: float) -> Float[Array, "pairs numbers"]:
    """Normal noise of standard deviation sigma, in units of θ, one row a pair."""
    flat, _ = ravel_pytree(theta)
    return sigma * jax.random.normal(key, (pairs, flat.size), flat.dtype)


def antithetic(learner: Learner, theta: Theta, noise: Float[Array, "pairs numbers"]) -> Theta:
    """θ moved by noise and against it, leaves [pairs, 2, …]."""
    flat, unravel = ravel_pytree(theta)
    theta_scale, _ = ravel_pytree(learner.theta_scale())
    shift = noise * theta_scale[None]
    return jax.vmap(jax.vmap(unravel))(flat[None, None] + jnp.stack([shift, -shift], axis=1))


def slope(
    learner: Learner, losses: Float[Array, "pairs 2"], moved: Float[Array, "pairs numbers"], sigma: float
) -> Theta:
    """θ-gradient that the losses of antithetic pairs tell.

    g = 1/(2σ²n) Σᵢ ξᵢ · (lossᵢ⁺ − lossᵢ⁻) / u

    Args:
        learner: whose units u they are.
        losses: of each pair.
        moved: ξ, how far the networks of each pair were moved, in units of θ.
        sigma: σ, standard deviation of one perturbation, in units of θ.

    Returns:
        The gradient, shaped as θ.
    """
    theta_scale, unravel = ravel_pytree(learner.theta_scale())
    difference = losses[:, 0] - losses[:, 1]
    return unravel(difference @ moved / (2 * sigma**2 * losses.shape[0]) / theta_scale)


def mean(values: Any) -> Any:
    """Mean over all that were moved, leaves [pairs, 2, …]."""
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=(0, 1)), values)
