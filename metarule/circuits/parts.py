"""Functions that circuits share: random matrices, the bias neuron, the feedback path, the reward."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.types import PRNGKey, Weights

__all__ = ["Output", "Rate", "biased", "feedback_signal", "normals", "reward"]

Rate = Literal["tanh", "sigmoid", "relu", "softplus", "identity"]
Output = Literal["sigmoid", "softmax", "tanh", "identity"]


def normals(key: PRNGKey, shapes: list[tuple[int, int]], scales: list[float]) -> Weights:
    """Draw normal matrices at once, because each further draw adds half a second to compilation.

    Args:
        key: decides the numbers.
        shapes: shape of each matrix.
        scales: standard deviation of each.

    Returns:
        The matrices.
    """
    if not shapes:
        return ()
    sizes = [pre * post for pre, post in shapes]
    flat = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1].tolist())
    return tuple(scale * part.reshape(shape) for scale, part, shape in zip(scales, flat, shapes, strict=True))


def biased(signal: Float[Array, " n"], bias: bool) -> Float[Array, " n_and_bias"]:
    """Presynaptic activities, with the bias neuron (always 1) as the last if there is one."""
    return jnp.append(signal, jnp.ones((), signal.dtype)) if bias else signal


def feedback_signal(
    path: str,
    forward: Float[Array, "hidden later"],
    feedback: Float[Array, "later hidden"] | None,
    modulator: Float[Array, " later"],
) -> Float[Array, " hidden"]:
    """Propagate modulators back over one projection.

    W·modulator (`transpose`), 0 (`zero`), or modulator·B (separate feedback weights)

    Args:
        path: name of the feedback path.
        forward: W, weights to the later neurons, without those of the bias neuron, which has no modulator.
        feedback: B, if the path has separate weights.
        modulator: modulators of the later neurons.

    Returns:
        Potentials of the earlier modulatory neurons.
    """
    match path:
        case "transpose":
            return forward @ modulator
        case "zero":
            return jnp.zeros(forward.shape[0], forward.dtype)
        case _:
            assert feedback is not None
            return modulator @ feedback


def reward(error: Float[Array, " outputs"]) -> Float[Array, ""]:
    """Concentration of the diffuse neuromodulator, −mean error²."""
    return -jnp.mean(error**2)
