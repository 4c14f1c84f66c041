"""Tuning the one learning rate of a baseline, with the same number of lifetimes that the learned rule was given."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.analysis.evaluation import learning_curves
from metarule.parallel.devices import sharded_jit
from metarule.prng import run_key
from metarule.tasks.base import primary_metric
from metarule.types import LOGITS, Learner, PRNGKey, Theta

__all__ = ["RATES", "Tuned", "at_rate", "tune"]

# The coarse grid.
RATES = 10.0 ** np.linspace(-3, 1, 13)
_FINE = (RATES[1] / RATES[0]) ** np.linspace(-1, 1, RATES.size + 2)[1:-1]
# Points along a lifetime over which the score is averaged, to tell rates apart that end equally well.
_POINTS = 4


class Tuned(NamedTuple):
    """Outcome of tuning a learning rate.

    Attributes:
        rate: the best rate.
        theta: θ at that rate.
        rates: every rate that was tried, the coarse grid first.
        scores: of each on the training tasks, the mean at the end of the lifetime and the mean along it [rates, 2].
        lifetimes: what the tuning cost.
    """

    rate: float
    theta: Theta
    rates: np.ndarray
    scores: np.ndarray
    lifetimes: int


def at_rate(learner: Learner, rate: float | Float[Array, ""]) -> Theta:
    """θ of a learner whose rule has one learning rate; decays of its traces are as declared."""
    theta = learner.init_theta(run_key(0))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if LOGITS in path else jnp.full_like(leaf, rate), theta
    )


def tune(learner: Learner, pool: Any, key: PRNGKey, budget: int) -> Tuned:
    """Pick the learning rate with the best mean score at the end of the lifetime, on training tasks.

    Of rates that end equally well, the one that is better along the lifetime is picked. Half of the budget goes to a grid
    over four decades, half to a finer grid around the best of it.

    Args:
        learner: a learner whose θ is one learning rate.
        pool: training tasks.
        key: decides the lifetimes; every rate is given the same ones.
        budget: lifetimes in all.

    Returns:
        The best rate, and all that were tried.
    """
    count = max(budget // (RATES.size + _FINE.size), 1)
    coarse_key, fine_key = jax.random.split(key)
    coarse = _score(learner, pool, coarse_key, RATES, count)
    rates = _FINE * RATES[_best(coarse)]
    fine = _score(learner, pool, fine_key, rates, count)
    best = float(rates[_best(fine)])
    return Tuned(
        rate=best,
        theta=jax.jit(partial(at_rate, learner))(best),
        rates=np.concatenate([RATES, rates]),
        scores=np.concatenate([coarse, fine]),
        lifetimes=count * (RATES.size + _FINE.size),
    )


def _best(scores: np.ndarray) -> int:
    return max(range(len(scores)), key=lambda number: tuple(scores[number]))


def _score(learner: Learner, pool: Any, key: PRNGKey, rates: np.ndarray, lifetimes: int) -> np.ndarray:
    return np.asarray(_mean_scores(learner, pool, key, jnp.asarray(rates, float), lifetimes))


@sharded_jit("learner", "lifetimes")
def _mean_scores(
    learner: Learner, pool: Any, key: PRNGKey, rates: Float[Array, " rates"], lifetimes: int
) -> Float[Array, "rates 2"]:
    def score(rate: Float[Array, ""]) -> Float[Array, " 2"]:
        seen = learning_curves(learner, at_rate(learner, rate), pool, key, lifetimes, _POINTS).metrics[
            primary_metric(learner.tasks)
        ]
        return jnp.stack([jnp.mean(seen[:, -1]), jnp.mean(seen)])

    return jax.lax.map(score, rates)
