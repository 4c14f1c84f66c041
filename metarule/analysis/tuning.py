"""Learning rates of baselines, tuned on training tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.analysis.agents import QLearning
from metarule.analysis.baselines import ELIGIBILITY
from metarule.analysis.evaluation import paired_curves
from metarule.lifetime.learner import Lifetime
from metarule.prng import run_key
from metarule.protocols import Learner
from metarule.rules.polynomial import Polynomial
from metarule.tasks.base import primary_metric
from metarule.types import LOGITS, PRNGKey, Theta

__all__ = ["DECAYS", "RATES", "Tuned", "theta_at_rate", "tune", "tune_all"]

# The coarse grid of learning rates, and the factors of the finer grid around its best rate.
RATES = 10.0 ** np.linspace(-3, 1, 13)
_FINE = (RATES[1] / RATES[0]) ** np.linspace(-1, 1, RATES.size + 2)[1:-1]
# Decays of eligibility traces, each of which is tried with the coarse grid.
DECAYS = (0.3, 0.6, 0.8, 0.9, 0.95)
# Points of a lifetime over which scores are averaged, to rank rates with equal final scores.
_POINTS = 4

# Decay of an eligibility trace, or None, and learning rate.
_Point: TypeAlias = tuple[float | None, float]


class Tuned(NamedTuple):
    """Result of tuning a learning rate.

    Attributes:
        rate: best rate; 0 for a learner without θ, of which nothing is tuned.
        decay: best decay of the eligibility trace; None for a rule without one.
        theta: θ at that rate and decay.
        rates: all rates, the coarse grid first, once for each decay [rates].
        scores: mean score of each rate on training tasks, at the end of a lifetime and along it [rates, 2].
        lifetimes: lifetimes used.
    """

    rate: float
    decay: float | None
    theta: Theta
    rates: np.ndarray
    scores: np.ndarray
    lifetimes: int


def theta_at_rate(learner: Learner, rate: float | Float[Array, ""], decay: float | None = None) -> Theta:
    """θ of a learner whose rule has one learning rate.

    Args:
        learner: the learner.
        rate: the learning rate.
        decay: decay of all traces that θ has; None for their initial values.
    """

    def value(path: Any, leaf: Array) -> Array:
        if LOGITS not in path:
            return jnp.full_like(leaf, rate)
        return leaf if decay is None else jnp.full_like(leaf, np.log(decay / (1 - decay)))

    return jax.tree.map_with_path(value, learner.init_theta(run_key(0)))


def tune(learner: Learner, pool: Any, key: PRNGKey, budget: int) -> Tuned:
    """Find the learning rate with the best mean final score on training tasks.

    Rates with equal final scores are ranked by their mean score along the lifetime. A coarse grid spans four decades; a
    finer one surrounds its best rate. Without eligibility traces each has half of the budget. With a trace the coarse
    grid is tried with each of `DECAYS`, at ten times the rates, because rewards are rare and traces small.

    Args:
        learner: a learner whose θ is one learning rate, or also the decay of an eligibility trace.
        pool: training tasks.
        key: decides the lifetimes, which are the same for all rates of a grid.
        budget: lifetimes in all.

    Returns:
        The best rate, and all rates with their scores.
    """
    return tune_all({"": learner}, pool, key, budget)[""]


def tune_all(
    learners: Mapping[str, Learner],
    pool: Any,
    key: PRNGKey,
    budget: int,
    pause: Callable[[], None] = lambda: None,
) -> dict[str, Tuned]:
    """Tune several learners of the same tasks side by side, in one program.

    Args:
        learners: by name; see `tune`. Those without θ are left as they are.
        pool: training tasks.
        key: decides the lifetimes, which are the same for all learners.
        budget: lifetimes of each.
        pause: is called before each evaluation, and may raise to stop.

    Returns:
        What `tune` returns for each.
    """
    fixed = [name for name, learner in learners.items() if not jax.tree.leaves(learner.init_theta(run_key(0)))]
    tuned = {name: Tuned(0.0, None, (), np.zeros(0), np.zeros((0, 2)), lifetimes=0) for name in fixed}
    tunable = {name: one for name, one in learners.items() if name not in tuned}
    for decays in ((None,), DECAYS):
        group = {name: one for name, one in tunable.items() if _has_eligibility(one) == (decays is DECAYS)}
        tuned |= _tune_group(group, decays, pool, key, budget, pause) if group else {}
    return {name: tuned[name] for name in learners}


def _has_eligibility(learner: Learner) -> bool:
    """True if the decay of an eligibility trace is tuned as well."""
    rule = learner.rule if isinstance(learner, Lifetime) else None
    return isinstance(learner, QLearning) or (isinstance(rule, Polynomial) and ELIGIBILITY in rule.traces)


def _tune_group(
    learners: Mapping[str, Learner],
    decays: Sequence[float | None],
    pool: Any,
    key: PRNGKey,
    budget: int,
    pause: Callable[[], None],
) -> dict[str, Tuned]:
    """Tune learners with the same grids; arguments as of `tune_all`."""
    names, contenders = list(learners), tuple(learners.values())
    coarse_rates = 10 * RATES if decays is DECAYS else RATES
    coarse = [(decay, rate) for decay in decays for rate in coarse_rates.tolist()]
    count = len(coarse) + _FINE.size
    lifetimes, metric = max(budget // count, 1), primary_metric(contenders[0].tasks)
    at_rate = jax.jit(theta_at_rate, static_argnums=(0, 2))

    def scores(points: Sequence[_Point], key: PRNGKey) -> Float[np.ndarray, "learners 2"]:
        """Scores of each learner at its own point."""
        pause()
        thetas = tuple(at_rate(one, rate, decay) for one, (decay, rate) in zip(contenders, points, strict=True))
        curves = jax.device_get(paired_curves(contenders, thetas, pool, key, lifetimes, _POINTS))
        values = [np.asarray(one.metrics[metric], float) for one in curves]
        return np.array([(np.mean(one[:, -1]), np.mean(one)) for one in values])

    def grid(points: Sequence[Sequence[_Point]], key: PRNGKey) -> Float[np.ndarray, "learners points 2"]:
        return np.stack([scores(column, key) for column in zip(*points, strict=True)], axis=1)

    coarse_key, fine_key = jax.random.split(key)
    coarse_scores = grid([coarse] * len(names), coarse_key)
    starts = [coarse[_best(own)] for own in coarse_scores]
    fine = [[(decay, rate) for rate in (start * _FINE).tolist()] for decay, start in starts]
    fine_scores = grid(fine, fine_key)
    tuned = {}
    for number, (name, learner) in enumerate(learners.items()):
        decay, rate = fine[number][_best(fine_scores[number])]
        rates = np.array([point[1] for point in (*coarse, *fine[number])])
        scored = np.concatenate([coarse_scores[number], fine_scores[number]])
        tuned[name] = Tuned(rate, decay, at_rate(learner, rate, decay), rates, scored, lifetimes * count)
    return tuned


def _best(scores: Float[np.ndarray, "points 2"]) -> int:
    return max(range(len(scores)), key=lambda number: tuple(scores[number]))
