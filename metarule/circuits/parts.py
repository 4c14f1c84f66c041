"""What circuits have in common: the draw of their matrices, the neuron that is always at 1, the way of errors back."""

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
    """Normal matrices from one draw: each further draw would add half a second to compilation.

    Args:
        key: decides the draw.
        shapes: of each matrix.
        scales: standard deviation of each.

    Returns:
        The matrices.
    """
    if not shapes:
        return ()
    sizes = [pre * post for pre, post in shapes]
    drawn = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1].tolist())
    return tuple(scale * flat.reshape(shape) for scale, flat, shape in zip(scales, drawn, shapes, strict=True))


def biased(signal: Float[Array, " n"], bias: bool) -> Float[Array, " n_and_bias"]:
    """Presynaptic activities, the neuron that is always at 1 the last of them where there is a bias."""
    return jnp.append(signal, jnp.ones((), signal.dtype)) if bias else signal


def feedback_signal(
    path: str,
    forward: Float[Array, "hidden later"],
    feedback: Float[Array, "later hidden"] | None,
    modulator: Float[Array, " later"],
) -> Float[Array, " hidden"]:
    """Bring modulators one projection back.

    W·modulator (`transpose`), 0 (`zero`), or modulator·B over feedback weights of their own.

    Args:
        path: how, by name.
        forward: W, weights towards the later neurons, without those of the neuron at 1, which has no modulator.
        feedback: B, where the path has weights of its own.
        modulator: of the later neurons.

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
