"""How chaotic lives are under a θ: what becomes of a small disturbance of the network."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.analysis.evaluation import over_lifetimes
from metarule.lifetime.scans import loop
from metarule.lifetime.unroll import step_at
from metarule.parallel.devices import sharded_jit
from metarule.types import Integer, Learner, LearnerState, PRNGKey, Theta

__all__ = ["lyapunov_exponent"]


@sharded_jit("learner", "lifetimes")
def lyapunov_exponent(
    learner: Learner, theta: Theta, pool: Any, key: PRNGKey, lifetimes: int
) -> Float[Array, " lifetimes"]:
    """Factor by which a small disturbance of the network grows with each step, as a mean over the lifetime.

    growth = (‖v_T‖ / ‖v_0‖)^(1/T),  v_{t+1} = ∂carry_{t+1}/∂carry_t · v_t

    Its logarithm is the largest Lyapunov exponent, over the time of one lifetime. A life above 1 is chaotic: gradients
    grow with its length as growth^T, and those of long lifetimes are of no use. Below 1 what happened is forgotten; 0 says
    that the disturbance died out, as where every weight sits at its bound.

    Args:
        learner: who lives.
        theta: θ.
        pool: tasks.
        key: decides tasks, weights, and the disturbance.
        lifetimes: how many networks.

    Returns:
        The factor of each lifetime.

    References:
        Benettin et al. 1980 (the largest exponent from one disturbance, made small again at each step); Metz et al.
        2021, "Gradients are Not All You Need" (what it says of meta-gradients).
    """
    return over_lifetimes(partial(_of_one_life, learner, theta, pool, key), lifetimes)


def _of_one_life(learner: Learner, theta: Theta, pool: Any, key: PRNGKey, number: Integer) -> Float[Array, ""]:
    task_key, lifetime_key, disturbance_key = jax.random.split(jax.random.fold_in(key, number), 3)
    context, learner_state = learner.init(lifetime_key, learner.tasks.sample(task_key, pool, number))

    def step(
        state: tuple[LearnerState, LearnerState], t: Integer
    ) -> tuple[tuple[LearnerState, LearnerState], Float[Array, ""]]:
        learner_state, direction = state
        learner_state, moved = jax.jvp(
            lambda learner_state: step_at(learner, theta, context, learner_state, t)[0], (learner_state,), (direction,)
        )
        direction, length = _unit(moved)
        return (learner_state, direction), jnp.log(length)

    leaves, structure = jax.tree.flatten(learner_state)
    keys = jax.random.split(disturbance_key, len(leaves))
    drawn = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    start = (learner_state, _unit(jax.tree.unflatten(structure, drawn))[0])
    _, logarithms = loop(step, start, jnp.arange(learner.steps))
    return jnp.exp(jnp.mean(logarithms))


def _unit(direction: LearnerState) -> tuple[LearnerState, Float[Array, ""]]:
    """A direction of length 1, and the length that it had; one of length 0 stays as it is."""
    squares = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(direction)]
    length = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    return jax.tree.map(lambda leaf: leaf / jnp.where(length > 0, length, 1.0), direction), length
