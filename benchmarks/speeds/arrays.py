"""The forward pass alone, in plain numpy: all lifetimes at once, one step after the other."""

import numpy as np
from jaxtyping import Float

from benchmarks.speeds.problem import Lives

__all__ = ["losses"]


def _updated(
    theta: Float[np.ndarray, "7"],
    weights: Float[np.ndarray, "lives pre post"],
    pre: Float[np.ndarray, "lives pre"],
    potentials: Float[np.ndarray, "lives post"],
    modulators: Float[np.ndarray, "lives post"],
    bound: float,
) -> Float[np.ndarray, "lives pre post"]:
    # What has no synapse in it is computed once a neuron.
    alone = theta[0] + theta[2] * potentials + theta[3] * modulators
    with_pre = theta[1] + theta[4] * modulators + theta[5] * potentials
    pre = pre[:, :, None]
    weights = weights * (1 + theta[6] * pre) + pre * with_pre[:, None] + alone[:, None]
    return np.clip(weights, -bound, bound, out=weights)


def losses(theta: Float[np.ndarray, "7"], lifetimes: Lives, bound: float) -> Float[np.ndarray, "lives"]:
    """Loss of every lifetime.

    Args:
        theta: the rule.
        lives: as they are drawn; the precision is theirs.
        bound: of weights; math.inf for none.

    Returns:
        Losses.
    """
    first, second, feedback, inputs, targets = lifetimes
    theta = np.asarray(theta, first.dtype)
    count, steps, _ = inputs.shape
    one = np.ones((count, 1), first.dtype)
    total = np.zeros(count, first.dtype)
    for t in range(steps):
        signals, target = np.concatenate([inputs[:, t], one], 1), targets[:, t]
        x = np.matvec(first.mT, signals)
        hidden = np.concatenate([np.tanh(x), one], 1)
        z = np.matvec(second.mT, hidden)
        # In the terms of z, so that nothing is rounded to ln(0).
        softplus = np.logaddexp(0, z)
        errors = target - np.exp(z - softplus)
        total += (softplus - target * z).sum(1)
        modulators = np.matvec(feedback.mT, errors)
        first = _updated(theta, first, signals, x, modulators, bound)
        second = _updated(theta, second, hidden, z, errors, bound)
    return total / steps
