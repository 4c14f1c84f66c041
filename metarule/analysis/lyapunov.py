"""Lyapunov exponents of lifetimes: how fast a small perturbation of a network grows."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.analysis.evaluation import map_lifetimes, sample_lifetime
from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import step_at
from metarule.parallel.devices import sharded_jit
from metarule.protocols import Learner
from metarule.types import Integer, LearnerState, PRNGKey, Theta

__all__ = ["lyapunov_exponent"]

# State of a network, and the direction of its perturbation.
_Pair = tuple[LearnerState, LearnerState]


@sharded_jit("learner", "lifetimes")
def lyapunov_exponent(
    learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> Float[Array, " lifetimes"]:
    """Largest Lyapunov exponent per step, over the T steps of a lifetime.

    λ = ln(‖v_T‖ / ‖v_0‖) / T,  v_{t+1} = ∂state_{t+1}/∂state_t · v_t

    A lifetime with λ > 0 is chaotic: its gradients grow as exp(λ·T), and those of long lifetimes are useless. With
    λ < 0 perturbations decay. λ = −∞ means that the perturbation vanished, for example because all weights are clipped.
    The state of a task in a closed loop is not perturbed, and what is sampled stays the same.

    Args:
        learner: the learner.
        theta: θ.
        pool: tasks.
        key: decides tasks, weights and the perturbation.
        lifetimes: number of networks.

    Returns:
        The exponent of each lifetime.

    References:
        Benettin et al. 1980 (one perturbation, renormalised at each step); Metz et al. 2021, "Gradients are Not All
        You Need" (consequences for meta-gradients).
    """
    return map_lifetimes(partial(_exponent, learner, theta, pool, key), lifetimes)


def _exponent(learner: Learner, theta: Theta, pool: Any, key: PRNGKey, number: Integer) -> Float[Array, ""]:
    task, lifetime_key, _ = sample_lifetime(learner, pool, key, number)
    context, state = learner.init(theta, lifetime_key, task)

    def step(pair: _Pair, t: Integer) -> tuple[_Pair, Float[Array, ""]]:
        state, direction = pair

        def after(network: LearnerState) -> tuple[LearnerState, Any]:
            changed, _ = step_at(learner, theta, context, network._replace(task=state.task), t)
            return _network(changed), changed.task

        changed, direction, task = jax.jvp(after, (_network(state),), (direction,), has_aux=True)
        direction, length = _normalised(direction)
        return (changed._replace(task=task), direction), jnp.log(length)

    perturbation_key = jax.random.split(jax.random.fold_in(key, number), 3)[2]
    leaves, structure = jax.tree.flatten(_network(state))
    keys = jax.random.split(perturbation_key, len(leaves))
    noise = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    direction, _ = _normalised(jax.tree.unflatten(structure, noise))
    _, log_lengths = loop(step, (state, direction), jnp.arange(learner.steps))
    return jnp.mean(log_lengths)


def _network(state: LearnerState) -> LearnerState:
    """State of the network alone, which has derivatives; that of a task may hold counts."""
    return state._replace(task=())


def _normalised(direction: LearnerState) -> tuple[LearnerState, Float[Array, ""]]:
    """A direction scaled to length 1, and its former length; a direction of length 0 stays 0."""
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(direction)]
    length = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    return jax.tree.map(lambda leaf: leaf / jnp.where(length > 0, length, 1.0), direction), length
