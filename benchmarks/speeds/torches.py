"""PyTorch and TorchOpt: autograd through all steps, all lifetimes in one batch.

Every lifetime has its own copy of θ, so that one backward pass over the sum of losses yields a gradient for each.
PyTorch and TorchOpt are imported in functions, since only the extra `bench` installs them.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.speeds.problem import BOUND, THETA, Lifetimes

__all__ = ["compiled", "eager", "optimizers", "prepare"]

_THREADS = 2
_GROUP = 10

_Tensor = Any
# From θ and lifetimes, as from `prepare`, to losses and ∂loss/∂θ of every lifetime.
_Gradients = Callable[[_Tensor, list[_Tensor]], tuple[_Tensor, _Tensor]]


def prepare(lifetimes: Lifetimes) -> tuple[_Tensor, list[_Tensor]]:
    """Move θ and lifetimes to PyTorch, on an accelerator if JAX uses one, and set its threads."""
    import torch

    torch.set_num_threads(_THREADS)
    place = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    theta = torch.tensor(np.array(THETA, np.float32), dtype=torch.float32, device=place)
    return theta, [torch.tensor(array, device=place) for array in lifetimes]


def eager() -> _Gradients:
    """Build the function that runs one operation after the other."""
    return _gradients(_steps(_update), None)


def compiled() -> _Gradients:
    """Build the function that compiles ten steps, and runs one such group after the other."""
    import torch

    torch.compiler.reset()  # the programs of other sizes count towards its limit
    return _gradients(torch.compile(_steps(_update), fullgraph=True, dynamic=False, backend="inductor"), _GROUP)


def optimizers() -> _Gradients:
    """Build the function whose updates are those of a differentiable optimizer of TorchOpt with gradients −Δ."""
    import torchopt

    descent = torchopt.sgd(lr=1.0)

    def update(theta: _Tensor, weights: _Tensor, pre: _Tensor, potentials: _Tensor, modulators: _Tensor) -> _Tensor:
        change = _change(theta, weights, pre, potentials, modulators)
        # Without momentum, the state of the optimizer is empty.
        updates, _ = descent.update(-change, descent.init(weights), inplace=False)
        return torchopt.apply_updates(weights, updates, inplace=False).clamp(-BOUND, BOUND)

    return _gradients(_steps(update), None)


def _update(theta: _Tensor, weights: _Tensor, pre: _Tensor, potentials: _Tensor, modulators: _Tensor) -> _Tensor:
    return (weights + _change(theta, weights, pre, potentials, modulators)).clamp(-BOUND, BOUND)


def _change(theta: _Tensor, weights: _Tensor, pre: _Tensor, potentials: _Tensor, modulators: _Tensor) -> _Tensor:
    # Terms without a synapse are computed once a neuron.
    t = theta[:, :, None].unbind(1)
    without_pre = t[0] + t[2] * potentials + t[3] * modulators
    with_pre = t[1] + t[4] * modulators + t[5] * potentials
    return without_pre[:, None] + pre[:, :, None] * with_pre[:, None] + (t[6] * pre)[:, :, None] * weights


def _steps(update: Callable[..., _Tensor]) -> Callable[..., tuple[_Tensor, _Tensor, _Tensor]]:
    """Build the function from θ, weights, feedback path and some examples to their loss and the weights after them."""

    def steps(
        theta: _Tensor, first: _Tensor, second: _Tensor, feedback: _Tensor, inputs: _Tensor, targets: _Tensor
    ) -> tuple[_Tensor, _Tensor, _Tensor]:
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


def _gradients(steps: Callable[..., tuple[_Tensor, _Tensor, _Tensor]], group: int | None) -> _Gradients:
    def gradients(theta: _Tensor, lifetimes: list[_Tensor]) -> tuple[_Tensor, _Tensor]:
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
