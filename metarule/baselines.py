"""Classic rules to compare a learned rule with, tuned with the same number of lifetimes that it was given."""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec.structs import replace

from metarule.circuits.conditioning import ConditioningCircuit
from metarule.circuits.feedforward import Feedforward
from metarule.evaluation import curves
from metarule.lifetime import Lifetime
from metarule.rules.polynomial import Polynomial
from metarule.types import Learner, PRNGKey

__all__ = ["Tuned", "backprop", "baselines", "delta", "feedback_alignment", "rescorla_wagner", "sutton_barto", "tune"]

_COARSE = 10.0 ** np.linspace(-3, 1, 13)
_FINE = (_COARSE[1] / _COARSE[0]) ** np.linspace(-1, 1, _COARSE.size + 2)[1:-1]
# Points along a life over which the score is averaged, to tell rates apart that end equally well.
_POINTS = 4


class Tuned(NamedTuple):
    """Outcome of tuning a learning rate.

    Attributes:
        theta: the best rate, as the θ of a rule of one term.
        rates: every rate that was tried, the coarse grid first.
        scores: of each on the training tasks, the mean at the end of the life and the mean along it [rates, 2].
        lifetimes: what the tuning cost.
    """

    theta: Float[Array, "1"]
    rates: np.ndarray
    scores: np.ndarray
    lifetimes: int


def baselines(lifetime: Lifetime) -> dict[str, Lifetime]:
    """Who is compared with a learned rule, by name: the classic rules that its circuit is made for."""
    match lifetime.circuit:
        case Feedforward():
            return {"delta": delta(lifetime), "backprop": backprop(lifetime)}
        case ConditioningCircuit() as circuit:
            trial_error = {"rescorla-wagner": rescorla_wagner(lifetime)} if _is_driven_by_the_us(circuit) else {}
            return trial_error | {"sutton-barto": sutton_barto(lifetime)}
        case _:
            return {"delta": delta(lifetime)}


def delta(lifetime: Lifetime) -> Lifetime:
    """The same circuit under the delta rule, Δw = η·pre·modulator (Widrow & Hoff 1960)."""
    return _under(lifetime, "delta")


def rescorla_wagner(lifetime: Lifetime) -> Lifetime:
    """The circuit of conditioning under Δw = η·pre·(US − ΣV) (Rescorla & Wagner 1972).

    The US drives the motor neuron, too: its potential is US + ΣV, so that US − ΣV = 2·modulator − potential where
    modulators carry the US as it is.
    """
    return _under(lifetime, "2*pre*modulator - pre*potential")


def backprop(lifetime: Lifetime) -> Lifetime:
    """Backprop with online gradient descent: the delta rule over the transpose with f′ (Rumelhart et al. 1986)."""
    return _over(lifetime, "transpose")


def feedback_alignment(lifetime: Lifetime) -> Lifetime:
    """Feedback alignment: the delta rule over a fixed random path with f′ (Lillicrap et al. 2016)."""
    return _over(lifetime, "random")


def _is_driven_by_the_us(circuit: ConditioningCircuit) -> bool:
    """Whether the modulators and the motor neuron are driven as `rescorla_wagner` takes for granted."""
    fixed = {(synapse.pre, synapse.post): synapse.between for synapse in circuit.synapses if not synapse.plastic}
    modulators = {synapse.modulator for synapse in circuit.synapses if synapse.plastic}
    inputs = {name: [pre for pre, post in fixed if post == name] for name in modulators}
    return fixed.get(("US", circuit.output)) == (1.0, 1.0) and all(
        name == "US" or (inputs[name] == ["US"] and fixed["US", name] == (1.0, 1.0)) for name in modulators
    )


def sutton_barto(lifetime: Lifetime) -> Lifetime:
    """The circuit of conditioning under Δw = η·pre_trace·(post − post_trace) (Sutton & Barto 1981).

    What reinforces is a change of the response, which the US drives, too: its end takes back most of what its onset
    taught if a CS ends with it.
    """
    return _under(lifetime, "pre_trace*post - pre_trace*post_trace")


def _under(lifetime: Lifetime, term: str) -> Lifetime:
    inner_loop = replace(lifetime.inner_loop, theta="shared")
    return replace(lifetime, rule=Polynomial(terms=(term,)), inner_loop=inner_loop)


def _over(lifetime: Lifetime, backward: Literal["transpose", "random"]) -> Lifetime:
    assert isinstance(lifetime.circuit, Feedforward)
    return replace(delta(lifetime), circuit=replace(lifetime.circuit, backward=backward, derivative=True))


def tune(learner: Learner, pool: Any, key: PRNGKey, budget: int) -> Tuned:
    """Pick the learning rate with the best mean score at the end of the life, on training tasks.

    Of rates that end equally well, the one that is better along the life is picked. Half of the budget goes to a grid
    over four decades, half to a finer grid around the best of it.

    Args:
        learner: a learner whose θ is one learning rate.
        pool: training tasks.
        key: decides the lives; every rate is given the same ones.
        budget: lifetimes in all.

    Returns:
        The best rate, and all that were tried.
    """
    lives = max(budget // (_COARSE.size + _FINE.size), 1)
    coarse_key, fine_key = jax.random.split(key)
    coarse = _score(learner, pool, coarse_key, _COARSE, lives)
    rates = _FINE * _COARSE[_best(coarse)]
    fine = _score(learner, pool, fine_key, rates, lives)
    return Tuned(
        theta=jnp.array([rates[_best(fine)]], float),
        rates=np.concatenate([_COARSE, rates]),
        scores=np.concatenate([coarse, fine]),
        lifetimes=lives * (_COARSE.size + _FINE.size),
    )


def _best(scores: np.ndarray) -> int:
    return max(range(len(scores)), key=lambda number: tuple(scores[number]))


def _score(learner: Learner, pool: Any, key: PRNGKey, rates: np.ndarray, lifetimes: int) -> np.ndarray:
    return np.asarray(_mean_scores(learner, pool, key, jnp.asarray(rates, float)[:, None], lifetimes))


@partial(jax.jit, static_argnames=("learner", "lifetimes"))
def _mean_scores(
    learner: Learner, pool: Any, key: PRNGKey, thetas: Float[Array, "rates 1"], lifetimes: int
) -> Float[Array, "rates 2"]:
    def score(theta: Float[Array, " 1"]) -> Float[Array, " 2"]:
        seen = curves(learner, theta, pool, key, lifetimes, _POINTS).metrics[learner.tasks.score]
        return jnp.stack([jnp.mean(seen[:, -1]), jnp.mean(seen)])

    return jax.lax.map(score, thetas)
