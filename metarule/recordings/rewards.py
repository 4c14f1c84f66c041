"""Rewards as the third factor of a rule."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["centred", "third_factor"]


def centred(
    reward: Float[Array, ""], average: Float[Array, ""], decay: Float[Array, ""] | float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Reward minus the moving average of the rewards before it, and the average after it.

    R − R̄,  R̄ ← λ·R̄ + (1 − λ)·R

    Args:
        reward: R; NaN where none was given, which is a third factor of 0 and leaves the average unchanged.
        average: R̄.
        decay: λ, between 0 and 1.

    Returns:
        (third factor, average after the step).
    """
    is_given = ~jnp.isnan(reward)
    change = jnp.where(is_given, reward, average) - average
    return change, average + (1 - decay) * change


def third_factor(rewards: Float[Array, " steps"], decay: Float[Array, ""] | float | None) -> Float[Array, " steps"]:
    """Third factor of each step: R − R̄ as in `centred`, with R̄ = 0 at first, or R itself without a decay."""
    if decay is None:
        return jnp.where(jnp.isnan(rewards), 0.0, rewards)

    def step(average: Float[Array, ""], reward: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        third, average = centred(reward, average, decay)
        return average, third

    return jax.lax.scan(step, jnp.zeros((), rewards.dtype), rewards)[1]
