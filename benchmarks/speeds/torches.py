"""PyTorch and TorchOpt: autograd through all steps, all lifetimes in one batch.

Every lifetime has its own copy of θ, so that one backward pass over the sum of losses yields a gradient for each.
PyTorch and TorchOpt are imported in functions, since only the extra `bench` installs them.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float

from benchmarks.speeds.problem import Lifetimes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["compiled", "eager", "optimizers", "prepare"]

_THREADS = 2
_GROUP = 10

# From what `prepare` returns to losses and gradients.
_Gradients = Callable[["Tensor", "list[Tensor]"], "tuple[Tensor, Tensor]"]
# From θ, weights, the feedback path, inputs and targets of some steps to their loss and the weights after them.
_Steps = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "tuple[Tensor, Tensor, Tensor]"]
# From θ, weights, pre, potentials and modulators to updated weights.
_Update = Callable[["Tensor", "Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]


def prepare(theta: Float[np.ndarray, "7"], lifetimes: Lifetimes) -> "tuple[Tensor, list[Tensor]]":
    """Move the rule and lifetimes to PyTorch, on an accelerator if JAX uses one, and set its threads.

    Args:
        theta: the rule.
        lifetimes: as drawn.

    Returns:
        Arguments of the functions of this module.
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
        Function of θ and lifetimes; it returns losses and ∂loss/∂θ of every lifetime.
    """
    return _gradients(_steps(_update(bound)), None)


def compiled(bound: float) -> _Gradients:
    """Build the function that compiles ten steps, and runs one such group after the other.

    Args:
        bound: of weights; math.inf for none.

    Returns:
        Function of θ and lifetimes; it returns losses and ∂loss/∂θ of every lifetime.
    """
    import torch

    group = torch.compile(_steps(_update(bound)), fullgraph=True, dynamic=False, backend="inductor")
    return _gradients(group, _GROUP)


def optimizers(bound: float) -> _Gradients:
    """Build the function whose updates are those of a differentiable optimizer of TorchOpt with gradients −Δ.

    Args:
        bound: of weights; math.inf for none.

    Returns:
        Function of θ and lifetimes; it returns losses and ∂loss/∂θ of every lifetime.
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

    return _gradients(_steps(update), None)


def _change(theta: "Tensor", weights: "Tensor", pre: "Tensor", potentials: "Tensor", modulators: "Tensor") -> "Tensor":
    # Terms without a synapse are computed once a neuron.
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


def _steps(update: _Update) -> _Steps:
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


def _gradients(steps: _Steps, group: int | None) -> _Gradients:
    def gradients(theta: "Tensor", lifetimes: "list[Tensor]") -> "tuple[Tensor, Tensor]":
        import torch

        first, second, feedback, inputs, targets = lifetimes
        length = group or inputs.shape[1]
        rules = theta.repeat(len(inputs), 1).requires_grad_()
        total = theta.new_zeros(len(inputs))
        for some_inputs, some_targets in zip(inputs.split(length, 1), targets.split(length, 1)):
            loss, first, second = steps(rules, first, second, feedback, some_inputs, some_targets)
            total = total + loss
        losses = total / inputs.shape[1]
        (result,) = torch.autograd.grad(losses.sum(), rules)
        return losses.detach().cpu(), result.cpu()  # waits for an accelerator

    return gradients
