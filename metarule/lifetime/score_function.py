"""Gradients where actions are sampled.

The derivative of an expectation over sampled actions aₜ has two parts, with the losses ℓₛ of a lifetime:

    ∂/∂θ E[Σₛ ℓₛ] = E[Σₛ ∂ℓₛ/∂θ + Σₜ (Gₜ − bₜ) · ∂ln P(aₜ)/∂θ],  Gₜ = Σ_{s ≥ t} ℓₛ

The first is the derivative with the actions as constants, which differentiation gives. The second is added here and
leaves the value as it is. It credits an action with the losses from its step on. A baseline bₜ that does not depend on
aₜ lowers the variance and leaves the expectation.

References:
    Williams 1992 (REINFORCE); Schulman, Heess, Weber, Abbeel 2015 (stochastic computation graphs); Foerster et al. 2018
    (terms whose value is 0).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.protocols import Learner, Sampling

__all__ = ["RunningMean", "baseline_of", "initial_mean", "samples", "score_term", "to_go", "updated_mean"]

# Points in relative time at which a running mean is stored, and share of the newest lifetime in it after many.
_POINTS, _RATE = 64, 0.05


class RunningMean(NamedTuple):
    """Mean over earlier lifetimes of the losses from a step on, in relative time, so that lengths may differ.

    Attributes:
        values: mean at evenly spaced times, the first and the last step included.
        lifetimes: number of lifetimes so far.
    """

    values: Float[Array, " points"]
    lifetimes: Float[Array, ""]


def samples(learner: Learner) -> bool:
    """True if a learner samples, so that its gradient has a score-function term."""
    return isinstance(learner, Sampling) and learner.samples


def to_go(losses: Float[Array, " steps"], final: Float[Array, ""] | float = 0.0) -> Float[Array, " steps"]:
    """Losses from each step on, Gₜ = Σ_{s ≥ t} ℓₛ + final."""
    return jnp.cumsum(losses[::-1])[::-1] + final


def score_term(
    left: Float[Array, " steps"], log_probabilities: Float[Array, " steps"], baseline: Float[Array, " steps"] | None
) -> Float[Array, ""]:
    """Term with the value 0 and the derivative Σₜ (Gₜ − bₜ) · ∂ln P(aₜ).

    Args:
        left: losses from each step on, Gₜ.
        log_probabilities: ln P(aₜ).
        baseline: bₜ; None for 0.
    """
    advantage = jax.lax.stop_gradient(left if baseline is None else left - baseline)
    term = jnp.sum(advantage * log_probabilities)
    return term - jax.lax.stop_gradient(term)


def initial_mean() -> RunningMean:
    """Running mean before the first lifetime."""
    return RunningMean(jnp.zeros(_POINTS), jnp.zeros(()))


def baseline_of(mean: RunningMean, steps: int) -> Float[Array, " steps"]:
    """Baseline at each step of a lifetime of some length."""
    return jnp.interp(_times(steps), _times(_POINTS), mean.values)


def updated_mean(mean: RunningMean, left: Float[Array, " steps"]) -> RunningMean:
    """Running mean after one more lifetime, with its losses from each step on; one that diverged does not count."""
    new = jnp.interp(_times(_POINTS), _times(len(left)), jax.lax.stop_gradient(left))
    rate = jnp.maximum(1 / (mean.lifetimes + 1), _RATE)
    after = RunningMean(mean.values + rate * (new - mean.values), mean.lifetimes + 1)
    finite = jnp.all(jnp.isfinite(new))
    return jax.tree.map(lambda one, other: jnp.where(finite, one, other), after, mean)


def _times(count: int) -> Float[Array, " count"]:
    return jnp.linspace(0.0, 1.0, count)
