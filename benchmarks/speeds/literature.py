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

from benchmarks.speeds.problem import Lifetimes

__all__ = ["ALL_TERMS", "TERMS", "Powers", "gradients"]

# Of pre, potential, weight and modulator.
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

_Weights = Float[Array, "pre post"]


def gradients(
    powers: tuple[Powers, ...], bound: float
) -> Callable[[Float[Array, "terms"], Lifetimes], tuple[Float[Array, "lifetimes"], Float[Array, "lifetimes terms"]]]:
    """Build the function of losses and gradients, compiled when it is first called.

    Args:
        powers: of the factors of each term, in the order of θ.
        bound: of weights; math.inf for none.

    Returns:
        Function of θ and lifetimes; it returns losses and ∂loss/∂θ of every lifetime.
    """

    def updated(
        theta: Float[Array, "terms"],
        weights: _Weights,
        pre: Float[Array, "pre"],
        potentials: Float[Array, "post"],
        modulators: Float[Array, "post"],
    ) -> _Weights:
        factors = pre[:, None], potentials[None], weights, modulators[None]
        features = jnp.stack(
            [
                jnp.broadcast_to(math.prod(factor**power for factor, power in zip(factors, term)), weights.shape)
                for term in powers
            ]
        )
        weights = weights + jnp.einsum("kij,k->ij", features, theta)
        return jnp.clip(weights, -bound, bound) if math.isfinite(bound) else weights

    def loss(theta: Float[Array, "terms"], context: Lifetimes) -> Float[Array, ""]:
        first, second, feedback, inputs, targets = map(jnp.asarray, context)

        def step(
            weights: tuple[_Weights, _Weights], train_examples: tuple[Float[Array, "inputs"], Float[Array, "outputs"]]
        ) -> tuple[tuple[_Weights, _Weights], Float[Array, ""]]:
            (first, second), (inputs, targets) = weights, train_examples
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
