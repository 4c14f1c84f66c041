"""The stated problem: lifetimes of a network with one hidden layer under the rule of seven terms, as plain arrays.

    signal_t = [input_t; 1],  x_t = Vᵀ·signal_t,  y_t = tanh(x_t),  z_t = Wᵀ·[y_t; 1],  output_t = σ(z_t)
    e_t = target_t − output_t,  m_t = e_t·B
    V ← clip(V + Δ(signal_t, x_t, m_t)),  W ← clip(W + Δ([y_t; 1], z_t, e_t)),  clip to ±bound
    Δ(pre, potential, modulator) = θ0 + θ1·pre + θ2·potential + θ3·modulator + θ4·pre·modulator + θ5·pre·potential
                                 + θ6·pre·weight
    loss = 1/T Σ_t Σ_outputs −target·ln(output) − (1 − target)·ln(1 − output)

The result is ∂loss/∂θ of each lifetime.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["BOUND", "SIZES", "THETA", "Lifetimes", "Size", "draw", "losses"]

BOUND = 2.0
# In the order of the equation above: a rule that learns, keeps its weights and is not chaotic.
THETA = (1e-4, -2e-4, 1e-4, 3e-4, 0.05, -0.002, -0.002)
# Mean length of an input vector.
_LENGTH = 1.5


class Size(NamedTuple):
    """Neurons of each layer, length of a lifetime, T, and number of lifetimes."""

    inputs: int
    hidden: int
    outputs: int
    steps: int
    lifetimes: int

    @property
    def name(self) -> str:
        """Neurons of each layer, as in 2-4-1."""
        return f"{self.inputs}-{self.hidden}-{self.outputs}"


SIZES = (
    Size(2, 4, 1, 200, 64),
    Size(3, 8, 1, 200, 64),
    Size(8, 16, 3, 200, 64),
    Size(64, 32, 10, 500, 32),
    Size(784, 128, 10, 200, 8),
)


class Lifetimes(NamedTuple):
    """Arguments of all implementations.

    Attributes:
        first: V, initial weights from [input; 1] to the hidden neurons.
        second: W, initial weights from [hidden; 1] to the output neurons.
        feedback: B, fixed weights of the feedback path.
        inputs: of each step.
        targets: 0 or 1.
    """

    first: Float[np.ndarray, "lifetimes inputs_and_bias hidden"]
    second: Float[np.ndarray, "lifetimes hidden_and_bias outputs"]
    feedback: Float[np.ndarray, "lifetimes outputs hidden"]
    inputs: Float[np.ndarray, "lifetimes steps inputs"]
    targets: Float[np.ndarray, "lifetimes steps outputs"]


def draw(size: Size, seed: int = 0) -> Lifetimes:
    """Draw lifetimes in float32; each has random linear teachers, one an output."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> Float[np.ndarray, "..."]:
        return random.normal(size=(size.lifetimes, *shape)) * scale

    inputs = normal(size.steps, size.inputs, scale=_LENGTH / size.inputs**0.5)
    teachers = normal(size.inputs, size.outputs, scale=1.0)
    lifetimes = Lifetimes(
        first=normal(size.inputs + 1, size.hidden, scale=(size.inputs + 1) ** -0.5),
        second=normal(size.hidden + 1, size.outputs, scale=(size.hidden + 1) ** -0.5),
        feedback=normal(size.outputs, size.hidden, scale=size.outputs**-0.5),
        inputs=inputs,
        targets=inputs @ teachers > 0,
    )
    return Lifetimes(*(np.ascontiguousarray(array, dtype=np.float32) for array in lifetimes))


def losses(theta: Float[np.ndarray, "7"], lifetimes: Lifetimes) -> Float[np.ndarray, "lifetimes"]:
    """Compute the loss of every lifetime in NumPy: only the forward pass, all lifetimes at once, weights bounded."""
    first, second, feedback, inputs, targets = lifetimes
    count, steps, _ = inputs.shape
    one = np.ones((count, 1), first.dtype)
    total = np.zeros(count, first.dtype)
    for t in range(steps):
        signals, target = np.concatenate([inputs[:, t], one], 1), targets[:, t]
        x = np.matvec(first.mT, signals)
        hidden = np.concatenate([np.tanh(x), one], 1)
        z = np.matvec(second.mT, hidden)
        # From z, so that no logarithm is of a rounded 0.
        softplus = np.logaddexp(0, z)
        errors = target - np.exp(z - softplus)
        total += (softplus - target * z).sum(1)
        first = _updated(theta, first, signals, x, np.matvec(feedback.mT, errors))
        second = _updated(theta, second, hidden, z, errors)
    return total / steps


def _updated(
    theta: Float[np.ndarray, "7"],
    weights: Float[np.ndarray, "lifetimes pre post"],
    pre: Float[np.ndarray, "lifetimes pre"],
    potentials: Float[np.ndarray, "lifetimes post"],
    modulators: Float[np.ndarray, "lifetimes post"],
) -> Float[np.ndarray, "lifetimes pre post"]:
    # Terms without a synapse are computed once a neuron.
    without_pre = theta[0] + theta[2] * potentials + theta[3] * modulators
    with_pre = theta[1] + theta[4] * modulators + theta[5] * potentials
    pre = pre[:, :, None]
    weights = weights * (1 + theta[6] * pre) + pre * with_pre[:, None] + without_pre[:, None]
    return np.clip(weights, -BOUND, BOUND, out=weights)
