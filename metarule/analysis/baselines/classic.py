"""Baselines: classic rules in the circuit of the learned rule, and backprop."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

from immutabledict import immutabledict
from msgspec.structs import replace

from metarule.analysis.baselines.descent import Descent
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.circuits.feedforward import Feedforward
from metarule.lifetime.learner import Lifetime
from metarule.protocols import Learner
from metarule.rules.polynomial import Polynomial

__all__ = [
    "BaselineName",
    "backprop",
    "baselines",
    "delta_rule",
    "descent",
    "feedback_alignment",
    "rescorla_wagner",
    "sutton_barto",
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


def baselines(lifetime: Lifetime, names: Iterable[str] = ()) -> dict[str, Learner]:
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
        case _:
            return ("delta",)


def with_rule(lifetime: Lifetime, rule: str) -> Lifetime:
    """The same circuit with a rule of one learning rate, such as `"oja"`; see `metarule.rules.presets`."""
    inner_loop = replace(lifetime.inner_loop, theta="shared")
    return replace(lifetime, rule=Polynomial(terms=(rule,)), inner_loop=inner_loop)


def delta_rule(lifetime: Lifetime) -> Lifetime:
    """The same circuit with the delta rule, Δw = η·pre·modulator (Widrow & Hoff 1960)."""
    return with_rule(lifetime, "delta")


def rescorla_wagner(lifetime: Lifetime) -> Lifetime:
    """The conditioning circuit with Δw = η·pre·(US − ΣV) (Rescorla & Wagner 1972).

    The US also drives the motor neuron, whose potential is US + ΣV. With modulator = US, US − ΣV is
    2·modulator − potential.
    """
    if not (isinstance(lifetime.circuit, ConditioningCircuit) and _us_drives(lifetime.circuit)):
        raise ValueError("rescorla_wagner needs a conditioning circuit that the US drives with weight 1")
    return with_rule(lifetime, "2*pre*modulator - pre*potential")


def backprop(lifetime: Lifetime) -> Lifetime:
    """Online backprop: the delta rule with feedback over the transpose and f′ (Rumelhart et al. 1986)."""
    return _with_feedback(lifetime, "transpose")


def feedback_alignment(lifetime: Lifetime) -> Lifetime:
    """Feedback alignment: the delta rule with fixed random feedback and f′ (Lillicrap et al. 2016)."""
    return _with_feedback(lifetime, "random")


def descent(lifetime: Lifetime, name: str) -> Descent:
    """Backprop with a stateful Optax optimiser: `"adam"` (Kingma & Ba 2015) or `"momentum"` 0.9 (Polyak 1964)."""
    return Descent(backprop=backprop(lifetime), **_DESCENTS[name])


def _us_drives(circuit: ConditioningCircuit) -> bool:
    """Check that the US drives the modulators and the motor neuron with weight 1, as `rescorla_wagner` needs."""
    fixed = {(synapse.pre, synapse.post): synapse.weight_range for synapse in circuit.synapses if not synapse.plastic}
    modulators = {synapse.modulator for synapse in circuit.synapses if synapse.plastic}
    inputs = {name: [pre for pre, post in fixed if post == name] for name in modulators}
    return fixed.get(("US", circuit.output)) == (1.0, 1.0) and all(
        name == "US" or (inputs[name] == ["US"] and fixed["US", name] == (1.0, 1.0)) for name in modulators
    )


def sutton_barto(lifetime: Lifetime) -> Lifetime:
    """The conditioning circuit with Δw = η·pre_trace·(post − post_trace) (Sutton & Barto 1981).

    Changes of the response reinforce. The US drives the response: if a CS ends with the US, the end of the US undoes
    most of the learning at its onset.
    """
    return with_rule(lifetime, "pre_trace*post - pre_trace*post_trace")


def _with_feedback(lifetime: Lifetime, feedback: Literal["transpose", "random"]) -> Lifetime:
    if not isinstance(lifetime.circuit, Feedforward):
        raise ValueError(f"circuit = {type(lifetime.circuit).__name__}: this baseline needs a Feedforward circuit")
    return replace(delta_rule(lifetime), circuit=replace(lifetime.circuit, feedback=feedback, derivative=True))


_DESCENTS: dict[str, dict[str, Any]] = {
    "momentum": {"name": "sgd", "arguments": immutabledict(momentum=0.9)},
    "adam": {"name": "adam"},
}
_BASELINES: dict[str, Callable[[Lifetime], Learner]] = {
    **{
        name: partial(with_rule, rule=name)
        for name in ("hebb", "anti_hebb", "covariance", "oja", "bcm", "three_factor")
    },
    **{name: partial(descent, name=name) for name in _DESCENTS},
    "delta": delta_rule,
    "feedback_alignment": feedback_alignment,
    "backprop": backprop,
    "rescorla_wagner": rescorla_wagner,
    "sutton_barto": sutton_barto,
}
