"""Baselines of a learned rule: classic rules in its circuit, and backprop, each with a tuned learning rate."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from immutabledict import immutabledict
from jaxtyping import Array, Float, Shaped
from msgspec import Struct
from msgspec.structs import replace

from metarule.analysis.evaluation import paired_curves
from metarule.circuits.base import offered_variables
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.circuits.feedforward import Feedforward
from metarule.lifetime.learner import Lifetime
from metarule.meta.transforms import Arguments, make_transform
from metarule.prng import run_key
from metarule.protocols import Learner
from metarule.rules.polynomial import Polynomial
from metarule.tasks.base import primary_metric
from metarule.types import LOGITS, PRNGKey, PyTree, Synapse, Theta

__all__ = [
    "RATES",
    "BaselineName",
    "Descent",
    "Tuned",
    "backprop",
    "baselines",
    "delta_rule",
    "descent",
    "feedback_alignment",
    "rescorla_wagner",
    "sutton_barto",
    "theta_at_rate",
    "tune",
    "tune_all",
    "with_rule",
]

BaselineName = Literal[
    "delta",
    "feedback_alignment",
    "backprop",
    "momentum",
    "adam",
    "hebb",
    "anti_hebb",
    "covariance",
    "oja",
    "bcm",
    "three_factor",
    "rescorla_wagner",
    "sutton_barto",
]
# The coarse grid of learning rates, and the factors of the finer grid around its best rate.
RATES = 10.0 ** np.linspace(-3, 1, 13)
_FINE = (RATES[1] / RATES[0]) ** np.linspace(-1, 1, RATES.size + 2)[1:-1]
# Points of a lifetime over which scores are averaged, to rank rates with equal final scores.
_POINTS = 4


class Descent(Struct, frozen=True, kw_only=True):
    """Rule that applies an Optax optimiser to the gradient of the loss of each step.

    Δw = Optax(−pre·modulator; θ)

    θ is the learning rate. With feedback over the transpose and f′, −pre·modulator is the gradient. The state of the
    optimiser is the memory of the synapses.

    Attributes:
        name: Optax optimiser.
        arguments: its arguments besides the learning rate.
    """

    name: str
    arguments: Arguments = immutabledict()

    def init(self, key: PRNGKey) -> Float[Array, " 1"]:
        """A learning rate of 0."""
        return jnp.zeros(1)

    def memory(self, weight: Float[Array, "*synapse"]) -> PyTree[Shaped[Array, "..."]]:
        """Initial state of the optimiser, which does not depend on its rate."""
        return make_transform(self.name, 1.0, self.arguments).init(weight)

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Compute Δw of one synapse and its memory after the step."""
        return self.update(theta, memory, synapse)

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "*projection"], Any]:
        """Compute ΔW of a projection and its memory after the step."""
        gradient = -jnp.multiply.outer(projection.pre, projection.modulator)
        return make_transform(self.name, theta[0], self.arguments).update(gradient, memory, projection.weight)


def baselines(lifetime: Lifetime, names: Iterable[str] = ()) -> dict[str, Lifetime]:
    """Make baselines of a learned rule.

    Args:
        lifetime: the learner of the learned rule.
        names: of the baselines; `()` for the defaults of the circuit.

    Returns:
        Learners by name. θ of each is one learning rate; steps, bounds and initial weights are those of `lifetime`.

    Raises:
        ValueError: an unknown baseline, or one that needs another circuit.
    """
    names = tuple(names)
    for name in names:
        if name not in _BASELINES:
            raise ValueError(f"baseline '{name}' does not exist; allowed: {', '.join(_BASELINES)}")
    return {name: _BASELINES[name](lifetime) for name in names or _defaults(lifetime)}


def _defaults(lifetime: Lifetime) -> tuple[str, ...]:
    """Default baselines of a circuit."""
    match lifetime.circuit:
        case Feedforward(hidden=hidden):
            # Without hidden neurons feedback alignment equals the delta rule.
            return ("delta", "feedback_alignment", "backprop", "adam") if hidden else ("delta", "backprop", "adam")
        case ConditioningCircuit() as circuit:
            return ("rescorla_wagner", "sutton_barto") if _us_drives(circuit) else ("sutton_barto",)
        case circuit:
            offered = offered_variables(circuit, lifetime.tasks.inputs, lifetime.tasks.outputs)
            return ("delta",) if {"pre", "modulator"} <= set(offered) else ()


def with_rule(lifetime: Lifetime, rule: str) -> Lifetime:
    """The same circuit with a rule of one learning rate, such as `"oja"`; see `metarule.rules.presets`."""
    inner_loop = replace(lifetime.inner_loop, theta="shared")
    return replace(lifetime, rule=Polynomial(terms=(rule,)), inner_loop=inner_loop)


def delta_rule(lifetime: Lifetime) -> Lifetime:
    """The same circuit with the delta rule, Δw = η·pre·modulator (Widrow & Hoff 1960)."""
    return with_rule(lifetime, "delta")


def backprop(lifetime: Lifetime) -> Lifetime:
    """Online backprop: the delta rule with feedback over the transpose and f′ (Rumelhart et al. 1986)."""
    return _with_feedback(lifetime, "transpose")


def feedback_alignment(lifetime: Lifetime) -> Lifetime:
    """Feedback alignment: the delta rule with fixed random feedback and f′ (Lillicrap et al. 2016)."""
    return _with_feedback(lifetime, "random")


def descent(lifetime: Lifetime, name: str) -> Lifetime:
    """Backprop with a stateful Optax optimiser: `"adam"` (Kingma & Ba 2015) or `"momentum"` 0.9 (Polyak 1964)."""
    return replace(backprop(lifetime), rule=_DESCENTS[name])


def rescorla_wagner(lifetime: Lifetime) -> Lifetime:
    """The conditioning circuit with Δw = η·pre·(US − ΣV) (Rescorla & Wagner 1972).

    The US also drives the motor neuron, whose potential is US + ΣV. With modulator = US, US − ΣV is
    2·modulator − potential.
    """
    if not (isinstance(lifetime.circuit, ConditioningCircuit) and _us_drives(lifetime.circuit)):
        raise ValueError("rescorla_wagner needs a conditioning circuit that the US drives with weight 1")
    return with_rule(lifetime, "2*pre*modulator - pre*potential")


def sutton_barto(lifetime: Lifetime) -> Lifetime:
    """The conditioning circuit with Δw = η·pre_trace·(post − post_trace) (Sutton & Barto 1981).

    Changes of the response reinforce. The US drives the response: if a CS ends with the US, the end of the US reverses
    most of the learning at its onset.
    """
    return with_rule(lifetime, "pre_trace*post - pre_trace*post_trace")


def _us_drives(circuit: ConditioningCircuit) -> bool:
    """True if the US drives the modulators and the motor neuron with weight 1, as `rescorla_wagner` needs."""
    fixed = {(synapse.pre, synapse.post): synapse.weight_range for synapse in circuit.synapses if not synapse.plastic}
    modulators = {synapse.modulator for synapse in circuit.synapses if synapse.plastic}
    inputs = {name: [pre for pre, post in fixed if post == name] for name in modulators}
    return fixed.get(("US", circuit.output)) == (1.0, 1.0) and all(
        name == "US" or (inputs[name] == ["US"] and fixed["US", name] == (1.0, 1.0)) for name in modulators
    )


def _with_feedback(lifetime: Lifetime, feedback: Literal["transpose", "random"]) -> Lifetime:
    if not isinstance(lifetime.circuit, Feedforward):
        raise ValueError(f"circuit = {type(lifetime.circuit).__name__}: this baseline needs a Feedforward circuit")
    return replace(delta_rule(lifetime), circuit=replace(lifetime.circuit, feedback=feedback, derivative=True))


_PRESETS = ("hebb", "anti_hebb", "covariance", "oja", "bcm", "three_factor")
_DESCENTS = {"momentum": Descent(name="sgd", arguments=immutabledict(momentum=0.9)), "adam": Descent(name="adam")}
_BASELINES: dict[str, Callable[[Lifetime], Lifetime]] = {
    **{name: partial(with_rule, rule=name) for name in _PRESETS},
    **{name: partial(descent, name=name) for name in _DESCENTS},
    "delta": delta_rule,
    "feedback_alignment": feedback_alignment,
    "backprop": backprop,
    "rescorla_wagner": rescorla_wagner,
    "sutton_barto": sutton_barto,
}


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
    return jax.tree.map_with_path(lambda path, leaf: leaf if LOGITS in path else jnp.full_like(leaf, rate), theta)


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
        learners: by name; see `tune`.
        pool: training tasks.
        key: decides the lifetimes, which are the same for all learners.
        budget: lifetimes of each.
        pause: is called before each evaluation, and may raise to stop.

    Returns:
        What `tune` returns for each.
    """
    if not learners:
        return {}
    names, contenders, count = list(learners), tuple(learners.values()), RATES.size + _FINE.size
    lifetimes, metric = max(budget // count, 1), primary_metric(contenders[0].tasks)
    at_rate = jax.jit(theta_at_rate, static_argnums=0)

    def scores(rates: Float[np.ndarray, " learners"], key: PRNGKey) -> Float[np.ndarray, "learners 2"]:
        pause()
        thetas = tuple(map(at_rate, contenders, rates.tolist()))
        curves = jax.device_get(paired_curves(contenders, thetas, pool, key, lifetimes, _POINTS))
        values = [np.asarray(one.metrics[metric], float) for one in curves]
        return np.array([(np.mean(one[:, -1]), np.mean(one)) for one in values])

    def grid(rates: Float[np.ndarray, "learners rates"], key: PRNGKey) -> Float[np.ndarray, "learners rates 2"]:
        return np.stack([scores(column, key) for column in rates.T], axis=1)

    coarse_key, fine_key = jax.random.split(key)
    coarse = np.tile(RATES, (len(names), 1))
    coarse_scores = grid(coarse, coarse_key)
    fine = np.multiply.outer([RATES[_best(own)] for own in coarse_scores], _FINE)
    fine_scores = grid(fine, fine_key)
    best = [float(rates[_best(own)]) for rates, own in zip(fine, fine_scores, strict=True)]
    tables = np.hstack([coarse, fine]), np.hstack([coarse_scores, fine_scores])
    return {
        name: Tuned(rate, at_rate(learner, rate), rates, scored, lifetimes * count)
        for name, learner, rate, rates, scored in zip(names, contenders, best, *tables, strict=True)
    }


def _best(scores: Float[np.ndarray, "rates 2"]) -> int:
    return max(range(len(scores)), key=lambda number: tuple(scores[number]))
