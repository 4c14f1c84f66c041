"""Implementation of the literature in JAX: terms are stacked at every synapse and contracted with θ.

References:
    Mehta et al. 2024.
"""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from benchmarks.speeds.problem import BOUND, Lifetimes

__all__ = ["ALL_TERMS", "TERMS", "Powers", "gradients"]

# Powers of pre, potential, weight and modulator.
Powers = tuple[int, int, int, int]

# In the order of the stated problem.
TERMS: tuple[Powers, ...] = (
    (0, 0, 0, 0),
    (1, 0, 0, 0),
    (0, 1, 0, 0),
    (0, 0, 0, 1),
    (1, 0, 0, 1),
    (1, 1, 0, 0),
    (1, 0, 1, 0),
)
# All products of powers up to 2.
ALL_TERMS: tuple[Powers, ...] = tuple(itertools.product(range(3), range(3), range(3), range(3)))

_Theta = Float[Array, "terms"]
_Neurons = Float[Array, "neurons"]
_Weights = Float[Array, "pre post"]


def gradients(powers: tuple[Powers, ...]) -> Callable[[_Theta, Lifetimes], tuple[Array, Array]]:
    """Build the compiled function from θ, in the order of the terms, and lifetimes to losses and ∂loss/∂θ of each."""

    def updated(
        theta: _Theta, weights: _Weights, pre: _Neurons, potentials: _Neurons, modulators: _Neurons
    ) -> _Weights:
        factors = pre[:, None], potentials[None], weights, modulators[None]
        features = jnp.stack(
            [
                jnp.broadcast_to(math.prod(factor**power for factor, power in zip(factors, term)), weights.shape)
                for term in powers
            ]
        )
        return jnp.clip(weights + jnp.einsum("kij,k->ij", features, theta), -BOUND, BOUND)

    def loss(theta: _Theta, lifetime: Lifetimes) -> Float[Array, ""]:
        first, second, feedback, inputs, targets = map(jnp.asarray, lifetime)

        def step(
            weights: tuple[_Weights, _Weights], examples: tuple[_Neurons, _Neurons]
        ) -> tuple[tuple[_Weights, _Weights], Float[Array, ""]]:
            (first, second), (inputs, targets) = weights, examples
            signals = jnp.append(inputs, 1.0)
            x = signals @ first
            hidden = jnp.append(jnp.tanh(x), 1.0)
            z = hidden @ second
            errors = targets - jax.nn.sigmoid(z)
            first = updated(theta, first, signals, x, errors @ feedback)
            second = updated(theta, second, hidden, z, errors)
            return (first, second), (jax.nn.softplus(z) - targets * z).sum()

        _, terms = jax.lax.scan(step, (first, second), (inputs, targets))
        return terms.mean()

    return jax.jit(jax.vmap(jax.value_and_grad(loss), (None, 0)))
