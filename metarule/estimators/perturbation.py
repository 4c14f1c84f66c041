"""Perturbations of θ in multiples of the parameter scale, and the gradient that antithetic pairs estimate."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from metarule.protocols import Learner
from metarule.types import PRNGKey, Theta

__all__ = ["antithetic", "draw", "gradient", "mean"]


def draw(theta: Theta, key: PRNGKey, pairs: int, sigma: float) -> Float[Array, "pairs parameters"]:
    """Draw normal noise of standard deviation sigma, in multiples of the parameter scale, one row a pair."""
    flat, _ = ravel_pytree(theta)
    return sigma * jax.random.normal(key, (pairs, flat.size), flat.dtype)


def antithetic(learner: Learner, theta: Theta, noise: Float[Array, "pairs parameters"]) -> Theta:
    """Move θ by the noise and against it; leaves are [pairs, 2, …]."""
    flat, unravel = ravel_pytree(theta)
    scale, _ = ravel_pytree(learner.theta_scale())
    shift = noise * scale[None]
    return jax.vmap(jax.vmap(unravel))(flat[None, None] + jnp.stack([shift, -shift], axis=1))


def gradient(
    learner: Learner, losses: Float[Array, "pairs 2"], moved: Float[Array, "pairs parameters"], sigma: float
) -> Theta:
    """Estimate the θ-gradient from the losses of antithetic pairs.

    g = 1/(2σ²n) Σᵢ ξᵢ · (lossᵢ⁺ − lossᵢ⁻) / scale

    Args:
        learner: gives the parameter scale.
        losses: of each pair.
        moved: ξ, the total perturbation of each pair, in multiples of the scale.
        sigma: σ, standard deviation of one perturbation.

    Returns:
        The gradient, shaped as θ.
    """
    scale, unravel = ravel_pytree(learner.theta_scale())
    difference = losses[:, 0] - losses[:, 1]
    return unravel(difference @ moved / (2 * sigma**2 * losses.shape[0]) / scale)


def mean(values: Any) -> Any:
    """Mean over all perturbed lifetimes, of leaves [pairs, 2, …]."""
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=(0, 1)), values)
