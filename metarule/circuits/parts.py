"""Functions that circuits share: random matrices, the bias neuron, the feedback path, the reward."""

from collections.abc import Collection
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.types import PRNGKey, Stimulus, Synapse, Weights

__all__ = ["HiddenActivation", "OutputActivation", "append_bias", "feedback_potentials", "neuromodulator"]
__all__ += ["Traces", "Vectors", "decayed", "no_traces", "normal_matrices", "plastic", "synapses"]

Vectors = tuple[Float[Array, " _"], ...]
# Traces of presynaptic and of postsynaptic activities, by projection.
Traces = tuple[Vectors, Vectors]

HiddenActivation = Literal["tanh", "sigmoid", "relu", "softplus", "identity"]
OutputActivation = Literal["sigmoid", "softmax", "tanh", "identity", "choice"]


def normal_matrices(key: PRNGKey, shapes: list[tuple[int, int]], scales: list[float]) -> Weights:
    """Draw normal matrices of given standard deviations in one draw, because each adds half a second to compilation."""
    if not shapes:
        return ()
    sizes = [pre * post for pre, post in shapes]
    flat = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1].tolist())
    return tuple(scale * part.reshape(shape) for scale, part, shape in zip(scales, flat, shapes, strict=True))


def append_bias(signal: Float[Array, " n"], bias: bool) -> Float[Array, " n_and_bias"]:
    """Append the activity of the bias neuron, 1, to presynaptic activities, if there is one."""
    return jnp.append(signal, jnp.ones((), signal.dtype)) if bias else signal


def feedback_potentials(
    path: str,
    forward: Float[Array, "hidden later"],
    feedback: Float[Array, "later hidden"] | None,
    modulator: Float[Array, " later"],
) -> Float[Array, " hidden"]:
    """Potentials of modulatory neurons, from the modulators of the later neurons.

    W·modulator (`transpose`), 0 (`zero`), or modulator·B (separate feedback weights)

    Args:
        path: name of the feedback path.
        forward: W, weights to the later neurons, without those of the bias neuron, which has no modulator.
        feedback: B, if the path has separate weights.
        modulator: modulators of the later neurons.
    """
    if feedback is not None:
        return modulator @ feedback
    return forward @ modulator if path == "transpose" else jnp.zeros(forward.shape[0], forward.dtype)


def neuromodulator(stimulus: Stimulus, error: Float[Array, " outputs"]) -> Float[Array, ""]:
    """Concentration of the diffuse neuromodulator: the reward of the stimulus, or −mean error² without one."""
    return -jnp.mean(error**2) if stimulus.reward is None else stimulus.reward


def synapses(
    local: tuple[Vectors, Vectors, Vectors, Weights, Vectors], traces: Traces, diffuse: Float[Array, ""]
) -> tuple[Synapse, ...]:
    """Local variables of each projection.

    Args:
        local: pre, post, potential, weight and modulator by projection.
        traces: traces before this step.
        diffuse: concentration of the diffuse neuromodulator.
    """
    return tuple(Synapse(*values) for values in zip(*local, *traces, (diffuse,) * len(local[3]), strict=True))


def no_traces(weights: Weights) -> Traces:
    """Traces before the first step, 0."""
    return tuple(jnp.zeros_like(one[:, 0]) for one in weights), tuple(jnp.zeros_like(one[0]) for one in weights)


def decayed(traces: Traces, activities: tuple[Vectors, Vectors], decay: float) -> Traces:
    """Traces after a step, decay·trace + (1 − decay)·activity."""
    return jax.tree.map(lambda trace, activity: decay * trace + (1 - decay) * activity, traces, activities)


def plastic(fixed: Collection[int], projections: int) -> tuple[bool, ...]:
    """Plasticity of each projection, of which some are fixed.

    Raises:
        ValueError: a number that no projection has, one given twice, or no plastic projection.
    """
    allowed = f"allowed: distinct numbers from 0 to {projections - 1}, not all of them"
    if len(set(fixed)) < len(fixed) or not set(fixed) < set(range(projections)):
        raise ValueError(f"fixed = {list(fixed)}; {allowed}")
    return tuple(number not in fixed for number in range(projections))
