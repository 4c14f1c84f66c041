"""Environments of simulated animals: the inputs of each trial, and the reward of each choice in it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.types import PRNGKey

__all__ = ["Trials", "discrimination", "noise", "odours"]


class Trials(NamedTuple):
    """Trials of one animal, which do not depend on its choices.

    Attributes:
        inputs: activity of the input neurons [steps, inputs].
        payoffs: reward of choice 0 and of choice 1 [steps, 2]; NaN where none is given, None where choices have none.
    """

    inputs: Float[Array, "steps inputs"]
    payoffs: Float[Array, "steps choices"] | None = None


def noise(key: PRNGKey, steps: int, inputs: int, scale: float) -> Trials:
    """Draw inputs from N(0, scale²), without rewards."""
    return Trials(scale * jax.random.normal(key, (steps, inputs)))


def odours(key: PRNGKey, steps: int, probabilities: Sequence[float], block: int, scale: float, spread: float) -> Trials:
    """Draw trials of two-armed foraging: a random odour, which the animal accepts (choice 1) or rejects.

    A reward of 1 or 0 is given after odour i is accepted, 1 with probability p_((i + b) mod n) in block b. None is
    given after a rejection.

    Args:
        key: source of odours, noise and rewards.
        steps: number of trials.
        probabilities: p, one an odour.
        block: trials of a block.
        scale: activity of the input neuron of the odour; that of the others is 0.
        spread: standard deviation of noise on all inputs.

    References:
        Rajagopalan, Darshan, Hibbard, Fitzgerald, Turner 2023.
    """
    odour_key, noise_key, reward_key = jax.random.split(key, 3)
    count = len(probabilities)
    odour = jax.random.randint(odour_key, (steps,), 0, count)
    inputs = scale * jax.nn.one_hot(odour, count) + spread * jax.random.normal(noise_key, (steps, count))
    rotated = (odour + jnp.arange(steps) // block) % count
    rewarded = jax.random.uniform(reward_key, (steps,)) < jnp.array(probabilities)[rotated]
    return Trials(inputs, jnp.stack([jnp.full(steps, jnp.nan), rewarded.astype(inputs.dtype)], axis=1))


def discrimination(key: PRNGKey, steps: int, inputs: int, scale: float) -> Trials:
    """Draw stimuli from N(0, scale²); the reward is 1 if the choice is that of [first input > 0], else 0.

    References:
        Liu, Geadah, Pillow 2025.
    """
    trials = noise(key, steps, inputs, scale)
    is_positive = trials.inputs[:, 0] > 0
    return trials._replace(payoffs=jnp.stack([~is_positive, is_positive], axis=1).astype(trials.inputs.dtype))
