"""Averages over the lifetimes of a meta-step that ignore those that are not finite."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from metarule.types import Estimate, Metrics

__all__ = ["robust_mean", "standard_error"]


def robust_mean(estimates: Estimate, clip: float) -> tuple[Estimate, Array, Float[Array, " lifetimes"]]:
    """Average over the finite lifetimes, each gradient clipped.

    g = Σᵢ∈F gᵢ·min(1, clip/‖gᵢ‖) / |F|,  F = finite lifetimes

    Args:
        estimates: with a leading axis [lifetimes].
        clip: largest norm of one gradient.

    Returns:
        (mean estimate, whether each lifetime is finite [lifetimes], norms before clipping [lifetimes]). Without a
        finite lifetime the loss is NaN and the gradient 0.
    """
    norms = jax.vmap(optax.tree.norm)(estimates.gradient)
    finite = jnp.isfinite(norms) & jnp.isfinite(estimates.loss)
    count = jnp.sum(finite)
    scale = jnp.where(finite, jnp.minimum(1.0, clip / jnp.maximum(norms, jnp.finfo(norms.dtype).tiny)), 0.0)

    def gradient_mean(leaf: Float[Array, "lifetimes ..."]) -> Float[Array, "..."]:
        values = jnp.where(finite.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)
        return jnp.tensordot(scale, values, axes=1) / jnp.maximum(count, 1)

    def mean(values: Float[Array, " lifetimes"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(finite, values, 0.0)) / count

    metrics: Metrics = jax.tree.map(mean, estimates.metrics)
    return Estimate(mean(estimates.loss), jax.tree.map(gradient_mean, estimates.gradient), metrics), finite, norms


def standard_error(losses: Float[Array, " lifetimes"], finite: Bool[Array, " lifetimes"]) -> Float[Array, ""]:
    """Standard error of the mean of the finite losses; |mean| where there is one loss only."""
    count = jnp.sum(finite)
    mean = jnp.sum(jnp.where(finite, losses, 0.0)) / count
    squares = jnp.sum(jnp.where(finite, (losses - mean) ** 2, 0.0))
    return jnp.where(count > 1, jnp.sqrt(squares / (count * jnp.maximum(count - 1, 1))), jnp.abs(mean))
