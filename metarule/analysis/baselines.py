"""Baselines of a learned rule: classic rules in its circuit, backprop, and agents that are no networks."""

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from immutabledict import immutabledict
from jaxtyping import Array, Float, Shaped
from msgspec import Struct
from msgspec.structs import replace

from metarule.analysis.agents import IdealObserver, QLearning
from metarule.circuits.conditioning import ConditioningCircuit
from metarule.circuits.feedforward import Feedforward
from metarule.lifetime.initial import learns_initial
from metarule.lifetime.learner import Lifetime
from metarule.meta.transforms import Arguments, make_transform
from metarule.protocols import ClosedLoop, Learner
from metarule.rules.polynomial import Polynomial
from metarule.rules.terms import Trace
from metarule.tasks.base import output_activation
from metarule.types import PRNGKey, PyTree, Synapse, Theta

__all__ = [
    "ELIGIBILITY",
    "BaselineName",
    "Descent",
    "backprop",
    "baselines",
    "delta_rule",
    "descent",
    "feedback_alignment",
    "reinforce",
    "rescorla_wagner",
    "reward_hebb",
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
    "reward_hebb",
    "reinforce",
    "q_learning",
    "ideal_observer",
]
# Name of the trace whose decay is tuned with the learning rate.
ELIGIBILITY = "eligibility"
# Decay of the running mean of the reward, E[R].
_MEAN_REWARD = 0.9


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


def baselines(lifetime: Lifetime, names: Iterable[str] = ()) -> dict[str, Learner]:
    """Make baselines of a learned rule.

    Args:
        lifetime: the learner of the learned rule.
        names: of the baselines; `()` for the defaults of tasks and circuit, as far as they fit.

    Returns:
        Learners by name. θ of each is one learning rate, with an eligibility trace also its decay; steps, bounds and
        initial weights are those of `lifetime`, but random where it learns them.

    Raises:
        ValueError: an unknown baseline, or one that needs another circuit or other tasks.
    """
    names, made = tuple(names), dict[str, Learner]()
    for name in names or _defaults(lifetime):
        if name not in _BASELINES:
            raise ValueError(f"baseline '{name}' does not exist; allowed: {', '.join(_BASELINES)}")
        try:
            made[name] = _BASELINES[name](lifetime if name in _AGENTS else _with_random_weights(lifetime))
        except ValueError:
            if names:
                raise
    return made


def _defaults(lifetime: Lifetime) -> tuple[str, ...]:
    """Default baselines of tasks where actions are chosen, or of a circuit, whether or not they fit."""
    if isinstance(lifetime.tasks, ClosedLoop) and output_activation(lifetime.tasks) == "choice":
        return ("reward_hebb", "reinforce", *_AGENTS)
    match lifetime.circuit:
        case Feedforward(hidden=hidden):
            # Without hidden neurons feedback alignment equals the delta rule.
            return ("delta", "feedback_alignment", "backprop", "adam") if hidden else ("delta", "backprop", "adam")
        case ConditioningCircuit():
            return ("rescorla_wagner", "sutton_barto")
        case _:
            return ("delta",)


def _with_random_weights(lifetime: Lifetime) -> Lifetime:
    """The learner with random initial weights in place of learned ones; its rule is replaced afterwards."""
    circuit = lifetime.circuit
    if not learns_initial(circuit):
        return lifetime
    replaced: Any = replace if isinstance(circuit, Struct) else dataclasses.replace
    with suppress(TypeError):  # a circuit of a user's own may have no such field
        circuit = replaced(circuit, initial="random")
    if learns_initial(circuit):
        reason = "it learns its initial weights, and baselines begin with random ones"
        raise ValueError(f"circuit = {type(circuit).__name__}: {reason}; allowed: a field `initial` that may be random")
    # The learned rule may have no parameter; this one has one, and reads no local variable.
    return replace(with_rule(lifetime, "1"), circuit=circuit)


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


def reward_hebb(lifetime: Lifetime) -> Lifetime:
    """The same circuit with Δw = η·(R − E[R])·e, e ← λ·e + (1 − λ)·pre·post, and E[R] a running mean.

    R is the diffuse neuromodulator, the reward in a closed loop. The decay λ is tuned with η (Frémaux, Gerstner 2016).
    """
    return _with_rewarded_trace(lifetime, "pre*post")


def reinforce(lifetime: Lifetime) -> Lifetime:
    """The same network with Δw = η·(R − E[R])·e, e ← λ·e + (1 − λ)·∂ln P(choice)/∂w, and E[R] a running mean.

    The derivative is pre·modulator with feedback over the transpose and f′. The decay λ is tuned with η (Williams 1992;
    Baxter, Bartlett 2001).
    """
    if output_activation(lifetime.tasks) != "choice":
        raise ValueError("reinforce needs tasks in which outputs are choices")
    if isinstance(lifetime.circuit, Feedforward):
        lifetime = _with_feedback(lifetime, "transpose")
    return _with_rewarded_trace(lifetime, "pre*modulator")


def _with_rewarded_trace(lifetime: Lifetime, of: str) -> Lifetime:
    if not isinstance(lifetime.tasks, ClosedLoop):
        raise ValueError("this baseline needs tasks in a closed loop, which give rewards")
    traces = {ELIGIBILITY: Trace(of=of), "reward": Trace(of="neuromodulator", decay=_MEAN_REWARD, learned=False)}
    term = f"{ELIGIBILITY}*neuromodulator - {ELIGIBILITY}*reward"
    rule = Polynomial(terms=(term,), traces=immutabledict(traces))
    return replace(with_rule(lifetime, "hebb"), rule=rule)


def _agent(lifetime: Lifetime, kind: type[IdealObserver] | type[QLearning]) -> Learner:
    if not isinstance(lifetime.tasks, ClosedLoop) or output_activation(lifetime.tasks) != "choice":
        raise ValueError("this baseline needs tasks in a closed loop in which outputs are choices")
    return kind(tasks=lifetime.tasks, inner_loop=lifetime.inner_loop)


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
_AGENTS: dict[str, type[IdealObserver] | type[QLearning]] = {"q_learning": QLearning, "ideal_observer": IdealObserver}
_BASELINES: dict[str, Callable[[Lifetime], Learner]] = {
    **{name: partial(with_rule, rule=name) for name in _PRESETS},
    **{name: partial(descent, name=name) for name in _DESCENTS},
    "delta": delta_rule,
    "feedback_alignment": feedback_alignment,
    "backprop": backprop,
    "rescorla_wagner": rescorla_wagner,
    "sutton_barto": sutton_barto,
    "reward_hebb": reward_hebb,
    "reinforce": reinforce,
    **{name: partial(_agent, kind=kind) for name, kind in _AGENTS.items()},
}
