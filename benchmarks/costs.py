"""What a θ-gradient costs, in lifetimes that are only lived."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.estimators.base import lifetimes_per_estimate
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta import Gradient
from metarule.meta.phases import resolved
from metarule.prng import run_key
from metarule.runs.experiment import Experiment
from metarule.types import Estimator, Integer, Theta

__all__ = ["relative_cost"]

# Both forms are timed so often, in turn, and the fastest of each counts: other work on the machine comes and goes.
_TRIALS = 5
# Lifetimes that are timed, as many as searches live side by side, and how many of them each candidate lives.
_LIVES, _SHARED = 1024, 32


def relative_cost(experiment: Experiment) -> float:
    """Time of a lifetime with its θ-gradient, as a multiple of that of a lifetime in a search, measured side by side.

    There are 1,024 of both at once. In a search these are 32 candidates who live the same 32 lives, which are born once
    for all; each gradient is that of a lifetime of its own. Where an estimate takes several lifetimes, it is the time of each.

    Args:
        experiment: its optimiser is gradient descent.

    Returns:
        The ratio.
    """
    lifetime, optimizer = experiment.lifetime, experiment.optimizer
    assert isinstance(optimizer, Gradient)
    estimator: Estimator = resolved(optimizer, lifetime)[0].estimator
    pool, theta = experiment.split.train, lifetime.init_theta(run_key(0))

    def met(number: Integer) -> tuple[Any, Array]:
        task_key, lifetime_key = jax.random.split(jax.random.fold_in(run_key(1), number))
        return lifetime.tasks.sample(task_key, pool, number), lifetime_key

    def searched(theta: Theta) -> Float[Array, " lives"]:
        return jax.vmap(lambda number: lifetime_loss(lifetime, theta, *met(number))[0])(jnp.arange(_SHARED))

    def differentiated(number: Integer) -> Any:
        task, key = met(number)
        return estimator.estimate(lifetime, theta, task, estimator.init(lifetime, theta, key), key)[0].gradient

    thetas = jax.tree.map(lambda leaf: jnp.stack([leaf] * (_LIVES // _SHARED)), theta)
    forms = [(jax.jit(jax.vmap(searched)), thetas), (jax.jit(jax.vmap(differentiated)), jnp.arange(_LIVES))]
    for form, given in forms:
        jax.block_until_ready(form(given))
    seconds = [[_timed(form, given) for form, given in forms] for _ in range(_TRIALS)]
    alone, with_gradient = (min(times) for times in zip(*seconds, strict=True))
    return with_gradient / alone / lifetimes_per_estimate(estimator)


def _timed(form: Callable[..., Any], given: Any) -> float:
    clock = time.perf_counter()
    jax.block_until_ready(form(given))
    return time.perf_counter() - clock
