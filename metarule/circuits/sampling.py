"""Random numbers of a step: noise on potentials, and the choice of one output neuron."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from metarule.activations import ACTIVATIONS
from metarule.types import PRNGKey

__all__ = ["CHOICE", "Response", "choose", "noisy", "respond", "split_key"]

# Output activation with which one neuron fires.
CHOICE = "choice"


class Response(NamedTuple):
    """Response of the output neurons.

    Attributes:
        output: activity [outputs].
        mean: mean of the activity over what is sampled [outputs]; errors are target − mean.
        log_probability: logarithm of the probability of the choice; None if nothing was sampled.
    """

    output: Float[Array, " outputs"]
    mean: Float[Array, " outputs"]
    log_probability: Float[Array, ""] | None


def split_key(key: PRNGKey | None) -> tuple[PRNGKey | None, PRNGKey | None]:
    """Keys of the noise and of the choice of a step; none if the step has none."""
    if key is None:
        return None, None
    noise_key, choice_key = jax.random.split(key)
    return noise_key, choice_key


def noisy(
    potentials: Float[Array, " n"], noise: float, key: Key[Array, ""] | None, layer: int = 0
) -> Float[Array, " n"]:
    """Potentials with added Gaussian noise; without a key, or with `noise` 0, the potentials themselves.

    Args:
        potentials: potentials.
        noise: standard deviation.
        key: source of randomness of the step.
        layer: number of the layer, each of which has noise of its own.
    """
    if key is None or noise == 0:
        return potentials
    return potentials + noise * jax.random.normal(jax.random.fold_in(key, layer), potentials.shape, potentials.dtype)


def respond(activation: str, potentials: Float[Array, " outputs"], key: PRNGKey | None) -> Response:
    """Response of output neurons to their potentials.

    output = g(potential), but for `choice`, given a key: output = e_k with P(k) = softmax(potential)_k

    Args:
        activation: name of g.
        potentials: potentials of the output neurons.
        key: source of randomness of the choice; without one the response is the mean.
    """
    mean = ACTIVATIONS[activation](potentials)
    if activation != CHOICE or key is None:
        return Response(mean, mean, None)
    output = choose(mean, key)
    return Response(output, mean, jnp.sum(output * jax.nn.log_softmax(potentials)).astype(float))


def choose(probabilities: Float[Array, " n"], key: PRNGKey) -> Float[Array, " n"]:
    """Draw one of n neurons by its probability, as a one-hot vector that has no derivative.

    k = min(n − 1, #{j : P(neuron ≤ j) ≤ u · Σ P}),  u ~ U(0, 1)

    Exactly one entry is 1, the first where probabilities are not finite, and the last where all are 0.
    """
    n, exact = len(probabilities), jax.lax.stop_gradient(probabilities).astype(float)
    # The same order of summation for each row keeps the rounded sums from decreasing.
    cumulative = jnp.sum(jnp.where(jnp.tri(n, dtype=bool), exact, 0), axis=1)
    level = jax.random.uniform(key) * cumulative[-1]
    chosen = jnp.minimum(n - 1.0, jnp.sum((cumulative <= level).astype(float)))
    return (jnp.arange(n, dtype=float) == chosen).astype(probabilities.dtype)
