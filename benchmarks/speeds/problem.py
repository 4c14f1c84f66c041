"""The stated problem: lives of one hidden layer under the rule of seven terms, as plain arrays.

    signal_t = [input_t; 1],  x_t = Vᵀ·signal_t,  y_t = tanh(x_t),  z_t = Wᵀ·[y_t; 1],  output_t = σ(z_t)
    e_t = target_t − output_t,  m_t = e_t·B
    V ← clip(V + Δ(signal_t, x_t, m_t)),  W ← clip(W + Δ([y_t; 1], z_t, e_t)),  clip to ±bound
    Δ(pre, potential, modulator) = θ0 + θ1·pre + θ2·potential + θ3·modulator + θ4·pre·modulator + θ5·pre·potential
                                 + θ6·pre·weight
    loss = 1/T Σ_t Σ_outputs −target·ln(output) − (1 − target)·ln(1 − output)

What is wanted of every lifetime is ∂loss/∂θ, one gradient a lifetime.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["SIZES", "THETA", "Lives", "Size", "draw"]

# In the order of the equation above: a rule that learns, keeps its weights and is not chaotic.
THETA = (1e-4, -2e-4, 1e-4, 3e-4, 0.05, -0.002, -0.002)
# Inputs are about so long, however many there are.
_LENGTH = 1.5


class Size(NamedTuple):
    """How large the problem is.

    Attributes:
        inputs: input neurons.
        hidden: hidden neurons.
        outputs: output neurons.
        steps: length of a lifetime, T.
        lives: how many live side by side.
    """

    inputs: int
    hidden: int
    outputs: int
    steps: int
    lifetimes: int

    @property
    def name(self) -> str:
        """Neurons of each layer, as in 2-4-1."""
        return f"{self.inputs}-{self.hidden}-{self.outputs}"


SIZES = (Size(2, 4, 1, 200, 64), Size(64, 32, 10, 500, 32), Size(784, 128, 10, 200, 8))


class Lives(NamedTuple):
    """What all ways to the gradient are given.

    Attributes:
        first: V, initial weights from [input; 1] to the hidden neurons.
        second: W, initial weights from [hidden; 1] to the output neurons.
        backward: B, fixed weights of the modulatory path.
        inputs: what is presented.
        targets: 0 or 1.
    """

    first: Float[np.ndarray, "lives inputs_and_bias hidden"]
    second: Float[np.ndarray, "lives hidden_and_bias outputs"]
    feedback: Float[np.ndarray, "lives outputs hidden"]
    inputs: Float[np.ndarray, "lives steps inputs"]
    targets: Float[np.ndarray, "lives steps outputs"]


def draw(size: Size, seed: int = 0) -> Lives:
    """Lifetimes of a size; each has random linear teachers, one an output.

    Args:
        size: how large.
        seed: decides everything.

    Returns:
        Arrays in float32.
    """
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> Float[np.ndarray, "..."]:
        return random.normal(size=(size.lifetimes, *shape)) * scale

    inputs = normal(size.steps, size.inputs, scale=_LENGTH / size.inputs**0.5)
    teachers = normal(size.inputs, size.outputs, scale=1.0)
    lifetimes = Lives(
        first=normal(size.inputs + 1, size.hidden, scale=(size.inputs + 1) ** -0.5),
        second=normal(size.hidden + 1, size.outputs, scale=(size.hidden + 1) ** -0.5),
        feedback=normal(size.outputs, size.hidden, scale=size.outputs**-0.5),
        inputs=inputs,
        targets=inputs @ teachers > 0,
    )
    return Lives(*(np.ascontiguousarray(array, dtype=np.float32) for array in lifetimes))
