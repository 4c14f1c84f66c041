"""Who a learned rule is compared with: classic rules in its circuit, and backprop."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

from immutabledict import immutabledict
from msgspec.structs import replace

from metarule.analysis.baselines.descent import Descent
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.circuits.feedforward import Feedforward
from metarule.lifetime.learner import Lifetime
from metarule.rules.polynomial import Polynomial
from metarule.types import Learner

__all__ = [
    "BaselineName",
    "backprop",
    "baselines",
    "delta",
    "descent",
    "feedback_alignment",
    "rescorla_wagner",
    "sutton_barto",
    "under",
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


def baselines(lifetime: Lifetime, names: Iterable[str] = ()) -> dict[str, Learner]:
    """Who is compared with a learned rule, by name.

    Args:
        lifetime: who lives under the learned rule.
        names: of baselines; none for the classic rules that the circuit is made for.

    Returns:
        Learners whose θ is one learning rate; their life, bounds and initial weights are those of `lifetime`.

    Raises:
        ValueError: no such baseline, or one that the circuit is not made for.
    """
    names = tuple(names)
    for name in names:
        if name not in _BASELINES:
            raise ValueError(f"'{name}' is no baseline; allowed: {', '.join(_BASELINES)}")
    return {name: _BASELINES[name](lifetime) for name in names or _of(lifetime)}


def _of(lifetime: Lifetime) -> tuple[str, ...]:
    """The baselines that a circuit is made for."""
    match lifetime.circuit:
        case Feedforward(hidden=hidden):
            # Without hidden neurons errors go nowhere, so that feedback alignment would be the delta rule.
            return ("delta", "feedback_alignment", "backprop", "adam") if hidden else ("delta", "backprop", "adam")
        case ConditioningCircuit() as circuit:
            return ("rescorla_wagner", "sutton_barto") if _is_driven_by_the_us(circuit) else ("sutton_barto",)
        case _:
            return ("delta",)


def under(lifetime: Lifetime, rule: str) -> Lifetime:
    """The same circuit under a rule of one rate, such as `"oja"`; see `metarule.rules.presets`."""
    inner_loop = replace(lifetime.inner_loop, theta="shared")
    return replace(lifetime, rule=Polynomial(terms=(rule,)), inner_loop=inner_loop)


def delta(lifetime: Lifetime) -> Lifetime:
    """The same circuit under the delta rule, Δw = η·pre·modulator (Widrow & Hoff 1960)."""
    return under(lifetime, "delta")


def rescorla_wagner(lifetime: Lifetime) -> Lifetime:
    """The circuit of conditioning under Δw = η·pre·(US − ΣV) (Rescorla & Wagner 1972).

    The US drives the motor neuron, too: its potential is US + ΣV, so that US − ΣV = 2·modulator − potential where
    modulators carry the US as it is.
    """
    if not (isinstance(lifetime.circuit, ConditioningCircuit) and _is_driven_by_the_us(lifetime.circuit)):
        raise ValueError("the rule of Rescorla and Wagner needs a circuit of conditioning that the US drives by 1")
    return under(lifetime, "2*pre*modulator - pre*potential")


def backprop(lifetime: Lifetime) -> Lifetime:
    """Backprop with online gradient descent: the delta rule over the transpose with f′ (Rumelhart et al. 1986)."""
    return _over(lifetime, "transpose")


def feedback_alignment(lifetime: Lifetime) -> Lifetime:
    """Feedback alignment: the delta rule over a fixed random path with f′ (Lillicrap et al. 2016)."""
    return _over(lifetime, "random")


def descent(lifetime: Lifetime, name: str) -> Descent:
    """Backprop with an optimiser of Optax that remembers, such as `"adam"` (Kingma & Ba 2015).

    `"momentum"` is gradient descent with momentum 0.9 (Polyak 1964).
    """
    return Descent(backprop=backprop(lifetime), **_DESCENTS[name])


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
    return under(lifetime, "pre_trace*post - pre_trace*post_trace")


def _over(lifetime: Lifetime, feedback: Literal["transpose", "random"]) -> Lifetime:
    if not isinstance(lifetime.circuit, Feedforward):
        raise ValueError(f"errors go backward through a Feedforward circuit; this is {type(lifetime.circuit).__name__}")
    return replace(delta(lifetime), circuit=replace(lifetime.circuit, feedback=feedback, derivative=True))


_DESCENTS: dict[str, dict[str, Any]] = {
    "momentum": {"name": "sgd", "arguments": immutabledict(momentum=0.9)},
    "adam": {"name": "adam"},
}
_BASELINES: dict[str, Callable[[Lifetime], Learner]] = {
    **{name: partial(under, rule=name) for name in ("hebb", "anti_hebb", "covariance", "oja", "bcm", "three_factor")},
    **{name: partial(descent, name=name) for name in _DESCENTS},
    "delta": delta,
    "feedback_alignment": feedback_alignment,
    "backprop": backprop,
    "rescorla_wagner": rescorla_wagner,
    "sutton_barto": sutton_barto,
}
