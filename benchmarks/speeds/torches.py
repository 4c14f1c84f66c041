"""PyTorch and TorchOpt: autograd through all steps, all lifetimes at once.

Every life has its own copy of θ, so that one backward pass over the sum of losses yields one gradient a lifetime. PyTorch
and TorchOpt are imported where they are used, because they come with an extra that most users do without.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float

from benchmarks.speeds.problem import Lives

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["compiled", "eager", "optimizers", "prepare"]

_THREADS = 2
_BLOCK = 10

# Losses and gradients, from what prepare returns.
_Gradients = Callable[["Tensor", "list[Tensor]"], "tuple[Tensor, Tensor]"]
# The loss of some steps, and weights after them; from θ, weights, the modulatory path, inputs and targets.
_Presentations = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "tuple[Tensor, Tensor, Tensor]"]
# Weights after an update; from θ, weights, pre, potentials and modulators.
_Update = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]


def prepare(theta: Float[np.ndarray, "7"], lifetimes: Lives) -> "tuple[Tensor, list[Tensor]]":
    """Move the rule and lifetimes to PyTorch, on an accelerator if JAX works on one too, and give it its threads.

    Args:
        theta: the rule.
        lives: as they are drawn.

    Returns:
        What the functions of this module take.
    """
    import torch

    torch.set_num_threads(_THREADS)
    place = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    return torch.tensor(theta, dtype=torch.float32, device=place), [
        torch.tensor(array, device=place) for array in lifetimes
    ]


def eager(bound: float) -> _Gradients:
    """Build the function that runs one operation after the other.

    Args:
        bound: of weights; math.inf for none.

    Returns:
        From θ and lifetimes to losses and ∂loss/∂θ of every lifetime.
    """
    return _gradients(_presentations(_update(bound)), None)


def compiled(bound: float) -> _Gradients:
    """Build the function that compiles ten steps at once, and takes one such block after the other.

    Args:
        bound: of weights; math.inf for none.

    Returns:
        From θ and lifetimes to losses and ∂loss/∂θ of every lifetime.
    """
    import torch

    block = torch.compile(_presentations(_update(bound)), fullgraph=True, dynamic=False, backend="inductor")
    return _gradients(block, _BLOCK)


def optimizers(bound: float) -> _Gradients:
    """Build the function that lets TorchOpt take the steps: a differentiable optimizer whose gradients are −Δ.

    Args:
        bound: of weights; math.inf for none.

    Returns:
        From θ and lifetimes to losses and ∂loss/∂θ of every lifetime.
    """
    import torchopt

    descent = torchopt.sgd(lr=1.0)

    def update(
        theta: "Tensor", weights: "Tensor", pre: "Tensor", potentials: "Tensor", modulators: "Tensor"
    ) -> "Tensor":
        change = _change(theta, weights, pre, potentials, modulators)
        # Without momentum, the state of the optimizer is empty.
        updates, _ = descent.update(-change, descent.init(weights), inplace=False)
        return _clipped(torchopt.apply_updates(weights, updates, inplace=False), bound)

    return _gradients(_presentations(update), None)


def _change(theta: "Tensor", weights: "Tensor", pre: "Tensor", potentials: "Tensor", modulators: "Tensor") -> "Tensor":
    # What has no synapse in it is computed once a neuron.
    t = theta[:, :, None].unbind(1)
    alone = t[0] + t[2] * potentials + t[3] * modulators
    with_pre = t[1] + t[4] * modulators + t[5] * potentials
    return alone[:, None] + pre[:, :, None] * with_pre[:, None] + (t[6] * pre)[:, :, None] * weights


def _clipped(weights: "Tensor", bound: float) -> "Tensor":
    return weights.clamp(-bound, bound) if math.isfinite(bound) else weights


def _update(bound: float) -> _Update:
    def update(
        theta: "Tensor", weights: "Tensor", pre: "Tensor", potentials: "Tensor", modulators: "Tensor"
    ) -> "Tensor":
        return _clipped(weights + _change(theta, weights, pre, potentials, modulators), bound)

    return update


def _presentations(update: _Update) -> _Presentations:
    def steps(
        theta: "Tensor", first: "Tensor", second: "Tensor", feedback: "Tensor", inputs: "Tensor", targets: "Tensor"
    ) -> "tuple[Tensor, Tensor, Tensor]":
        from torch.nn import functional

        loss = theta.new_zeros(len(theta))
        for signals, target in zip(functional.pad(inputs, (0, 1), value=1.0).unbind(1), targets.unbind(1)):
            x = (signals[:, None] @ first)[:, 0]
            hidden = functional.pad(x.tanh(), (0, 1), value=1.0)
            z = (hidden[:, None] @ second)[:, 0]
            errors = target - z.sigmoid()
            loss = loss + functional.binary_cross_entropy_with_logits(z, target, reduction="none").sum(1)
            first = update(theta, first, signals, x, (errors[:, None] @ feedback)[:, 0])
            second = update(theta, second, hidden, z, errors)
        return loss, first, second

    return steps


def _gradients(steps: _Presentations, block: int | None) -> _Gradients:
    def gradients(theta: "Tensor", lifetimes: "list[Tensor]") -> "tuple[Tensor, Tensor]":
        import torch

        first, second, feedback, inputs, targets = lifetimes
        length = block or inputs.shape[1]
        rules = theta.repeat(len(inputs), 1).requires_grad_()
        total = theta.new_zeros(len(inputs))
        for some_inputs, some_targets in zip(inputs.split(length, 1), targets.split(length, 1)):
            loss, first, second = steps(rules, first, second, feedback, some_inputs, some_targets)
            total = total + loss
        losses = total / inputs.shape[1]
        (result,) = torch.autograd.grad(losses.sum(), rules)
        return losses.detach().cpu(), result.cpu()  # for which an accelerator has to be done

    return gradients
