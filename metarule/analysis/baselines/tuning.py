"""Tuning of the learning rate of a baseline, with as many lifetimes as meta-training used."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.analysis.evaluation import learning_curves
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.protocols import Learner
from metarule.tasks.base import primary_metric
from metarule.types import LOGITS, PRNGKey, Theta

__all__ = ["RATES", "Tuned", "theta_at_rate", "tune"]

# The coarse grid.
RATES = 10.0 ** np.linspace(-3, 1, 13)
_FINE = (RATES[1] / RATES[0]) ** np.linspace(-1, 1, RATES.size + 2)[1:-1]
# Points of a lifetime over which scores are averaged, to rank rates with equal final scores.
_POINTS = 4


class Tuned(NamedTuple):
    """Result of tuning a learning rate.

    Attributes:
        rate: best rate.
        theta: θ at that rate.
        rates: all rates, the coarse grid first [rates].
        scores: mean score of each rate on training tasks, at the end of a lifetime and along it [rates, 2].
        lifetimes: lifetimes used.
    """

    rate: float
    theta: Theta
    rates: np.ndarray
    scores: np.ndarray
    lifetimes: int


def theta_at_rate(learner: Learner, rate: float | Float[Array, ""]) -> Theta:
    """θ of a learner whose rule has one learning rate; decays of traces stay at their initial values."""
    theta = learner.init_theta(run_key(0))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if LOGITS in path else jnp.full_like(leaf, rate), theta
    )


def tune(learner: Learner, pool: Any, key: PRNGKey, budget: int) -> Tuned:
    """Find the learning rate with the best mean final score on training tasks.

    Rates with equal final scores are ranked by their mean score along the lifetime. Half of the budget is used for a
    grid over four decades, half for a finer grid around its best rate.

    Args:
        learner: a learner whose θ is one learning rate.
        pool: training tasks.
        key: decides the lifetimes, which are the same for all rates of a grid.
        budget: lifetimes in all.

    Returns:
        The best rate, and all rates with their scores.
    """
    count = max(budget // (RATES.size + _FINE.size), 1)
    coarse_key, fine_key = jax.random.split(key)
    coarse = _scores(learner, pool, coarse_key, RATES, count)
    rates = _FINE * RATES[_best(coarse)]
    fine = _scores(learner, pool, fine_key, rates, count)
    best = float(rates[_best(fine)])
    return Tuned(
        rate=best,
        theta=jax.jit(partial(theta_at_rate, learner))(best),
        rates=np.concatenate([RATES, rates]),
        scores=np.concatenate([coarse, fine]),
        lifetimes=count * (RATES.size + _FINE.size),
    )


def _best(scores: np.ndarray) -> int:
    return max(range(len(scores)), key=lambda number: tuple(scores[number]))


def _scores(learner: Learner, pool: Any, key: PRNGKey, rates: np.ndarray, lifetimes: int) -> np.ndarray:
    return np.asarray(_mean_scores(learner, pool, key, jnp.asarray(rates, float), lifetimes))


@sharded_jit("learner", "lifetimes")
def _mean_scores(
    learner: Learner, pool: Any, key: PRNGKey, rates: Float[Array, " rates"], lifetimes: int
) -> Float[Array, "rates 2"]:
    def score(rate: Float[Array, ""]) -> Float[Array, " 2"]:
        curves = learning_curves(learner, theta_at_rate(learner, rate), pool, key, lifetimes, _POINTS)
        values = curves.metrics[primary_metric(learner.tasks)]
        return jnp.stack([jnp.mean(values[:, -1]), jnp.mean(values)])

    return jax.lax.map(score, rates)
