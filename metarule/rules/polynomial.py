"""Rules that are polynomials in the local variables, linear in θ."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from immutabledict import immutabledict
from jaxtyping import Array, Float
from msgspec import Meta
from msgspec.structs import force_setattr

from metarule.config.schema import Checked
from metarule.rules.expansion import Expansion, expand
from metarule.rules.factorising import factored, matrix_form, parts
from metarule.rules.terms import VARIABLES, Term, Trace, join_signed, show, term_value
from metarule.types import Parts, PRNGKey, Synapse, Theta

__all__ = ["Polynomial"]


class Polynomial(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="polynomial"):
    """Polynomial in the local variables, with one coefficient for each term.

    Δw = Σₖ cₖ · termₖ(pre, post, potential, weight, modulator, …; traces)

    A term is a sum of monomials in the term language (`"pre*modulator"`, `"post^2*weight"`); the name of a classic rule
    (`"hebb"`, `"oja"`, `"bcm"`), which has one coefficient; or the name of a family, which is replaced by its terms:
    `"seven"`, `"sixteen"`, `"taylor(pre, post, weight; 2)"` with every product of powers up to 2, or
    `"symmetric(pre, post, weight; 2)"` with those of them that change sign with Δw if a neuron does.

    A trace is a moving average at each synapse; its name may occur in terms like that of a variable. Rules by name
    include their traces.

    θ has the coefficients of the terms that are not frozen, in the order of `names`. With learned decays it is a
    dictionary of these `coefficients` and of `logit_decay`, by name of the trace in alphabetical order.

    Attributes:
        terms: terms whose sum is the rule: monomials such as `pre*modulator`, rules (hebb, anti_hebb, covariance, oja,
            bcm, delta, rescorla_wagner, three_factor) or families (seven, sixteen, `taylor(pre, post, weight; 2)`,
            `symmetric(pre, post, weight, modulator; 2)`).
        traces: moving averages at the synapse by name, such as `eligibility = { of = 'pre*post' }`; they replace traces
            of rules by name.
        without: terms to leave out of the families.
        initial: initial coefficient by term; the others are 0.
        initial_spread: standard deviation of the noise on the initial coefficients, in the parameter scale.
        frozen: terms that keep their initial coefficient.
        hebbian_scale: scale of coefficients of terms without the modulator; that of terms with it is 1. Terms without
            it change weights even without an error, so that small coefficients have large effects over a lifetime;
            optimisers take smaller steps there.

    Raises:
        ValueError: a text that is not a term, a term given twice, an initial, frozen or excluded term that is not in
            the rule, no term, or a trace that no term uses.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992.
    """

    terms: Annotated[tuple[str, ...], Meta(min_length=1)] = ("sixteen",)
    traces: Mapping[str, Trace] = immutabledict()
    without: tuple[str, ...] = ()
    initial: Mapping[str, float] = immutabledict()
    initial_spread: Annotated[float, Meta(ge=0)] = 0.0
    frozen: tuple[str, ...] = ()
    hebbian_scale: Annotated[float, Meta(gt=0)] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = self._expansion
        if not rule.names:
            raise ValueError(f"without = {', '.join(self.without)}: no term is left; allowed: at least one")
        for field in ("initial", "frozen"):
            for name in getattr(self, field):
                if rule.find(name) is None:
                    raise ValueError(f"{field}: term '{name}' is not in the rule; allowed: {', '.join(self.names)}")
        initial = {rule.find(name): value for name, value in self.initial.items()}
        if len(initial) < len(self.initial):
            raise ValueError(f"initial = {', '.join(self.initial)}: two terms are equal; allowed: distinct terms")
        force_setattr(self, "initial", immutabledict(initial))
        force_setattr(self, "frozen", tuple(rule.find(name) for name in self.frozen))

    @property
    def names(self) -> tuple[str, ...]:
        """The terms as text, with families expanded."""
        return self._expansion.names

    @property
    def meaning(self) -> dict[str, Any]:
        """Settings that θ depends on, besides parameter names: frozen terms, fixed decays, averaged terms."""
        traces = {
            name: {"of": show(trace.term, VARIABLES)} | ({} if trace.learned else {"decay": trace.decay})
            for name, trace in self._expansion.traces.items()
        }
        frozen = {name: self.initial.get(name, 0.0) for name in self.frozen}
        return {"kind": "polynomial", "frozen": frozen, "traces": traces}

    @property
    def affine(self) -> bool:
        """True if Δw is affine in the weight: no term has a higher power of it."""
        column = VARIABLES.index("weight")
        return all(powers[column] <= 1 for term in self._expansion.terms for _, powers in term)

    @property
    def factored(self) -> bool:
        """True if Δw has `parts`: weights are multiplied only by pre-side variables, and there are no traces."""
        rule = self._expansion
        return not rule.traces and factored(rule.terms, VARIABLES)

    def init(self, key: PRNGKey) -> Theta:
        """Draw an initial θ: initial coefficients of the free terms plus noise, and logits of the initial decays."""
        initial = jnp.array([self.initial.get(name, 0.0) for name in self._free])
        coefficients = initial + self.initial_spread * self._scales() * jax.random.normal(key, initial.shape)
        decays = [self._expansion.traces[name].decay for name in self._learned]
        return self._theta(coefficients, jnp.array([np.log(decay / (1 - decay)) for decay in decays]))

    def scale(self) -> Theta:
        """Scale of each free coefficient, and 1 for the logits of decays."""
        return self._theta(self._scales(), jnp.ones(len(self._learned)))

    def memory(self, weight: Float[Array, "*synapse"]) -> dict[str, Float[Array, "*synapse"]] | tuple[()]:
        """Initial traces, all 0; `()` for a rule without traces."""
        return {name: jnp.zeros_like(weight) for name in self._expansion.traces} or ()

    def coefficients(self, theta: Theta) -> Float[Array, " terms"]:
        """Coefficients of all terms, frozen ones included, in the order of `names`."""
        free = theta["coefficients"] if self._learned else theta
        if not self.frozen:
            return free
        frozen = {name: jnp.asarray(self.initial.get(name, 0.0), free.dtype) for name in self.frozen}
        by_term = frozen | {name: free[number] for number, name in enumerate(self._free)}
        return jnp.stack([by_term[name] for name in self.names])

    def decays(self, theta: Theta) -> dict[str, Float[Array, ""]]:
        """The decay λ of each trace by name, those that are not learned included."""
        dtype, learned = self.coefficients(theta).dtype, self._learned
        return {
            name: jax.nn.sigmoid(theta["logit_decay"][learned.index(name)])
            if name in learned
            else jnp.asarray(trace.decay, dtype)
            for name, trace in self._expansion.traces.items()
        }

    def delta(self, theta: Theta, memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Δw of one synapse, term by term.

        e ← λ·e + (1 − λ)·of for each trace,  Δw = Σₖ cₖ Σₘ sₘ Π_v vᵖ
        """
        memory = self._updated_traces(theta, memory, lambda term: term_value(term, synapse))
        values = (*synapse, *(memory[name] for name in self._expansion.traces))
        terms = [term_value(term, values) for term in self._expansion.terms]
        return self.coefficients(theta) @ jnp.stack(terms), memory

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """ΔW of a projection as thin matrix products, without a tensor of features."""
        variables, one = projection._asdict(), jnp.ones(1, projection.weight.dtype)
        memory = self._updated_traces(theta, memory, lambda term: matrix_form((term,), one, variables))
        values = variables | {name: memory[name] for name in self._expansion.traces}
        return matrix_form(self._expansion.terms, self.coefficients(theta), values), memory

    def parts(self, theta: Theta, projection: Synapse) -> Parts:
        """Parts of ΔW of a projection, for a rule that is `factored`."""
        return parts(self._expansion.terms, self.coefficients(theta), projection._asdict())

    def describe(self, theta: Theta) -> dict[str, Float[Array, ""]]:
        """Coefficients by term and decays by trace, fixed ones included."""
        coefficients = self.coefficients(theta)
        chex.assert_shape(coefficients, (len(self.names),))
        named = {name: coefficients[number] for number, name in enumerate(self.names)}
        return named | {f"decay of {name}": decay for name, decay in self.decays(theta).items()}

    def from_description(self, described: Mapping[str, float]) -> Theta:
        """θ with these parameters, by the names of `describe`."""
        coefficients = jnp.array([described[name] for name in self._free])
        decays = jnp.array([described[f"decay of {name}"] for name in self._learned])
        return self._theta(coefficients, jnp.log(decays / (1 - decays)))

    def equation(self, theta: Theta) -> str:
        """The rule as an equation, with its traces, such as `Δw = 0.5·pre·modulator − 0.01·weight`."""
        rule = self._expansion
        pairs = zip(rule.terms, np.asarray(self.coefficients(theta)), strict=True)
        terms = [(term, value) for term, value in pairs if value]
        change = join_signed((value, _scaled(abs(value), _bracketed(term, rule.symbols))) for term, value in terms)
        used = {name for term, _ in terms for name in rule.traces_of(term)}
        traces = [
            f", {name} ← {_scaled(decay, name)} + {_scaled(1 - decay, _bracketed(rule.traces[name].term, VARIABLES))}"
            for name, decay in self.decays(theta).items()
            if name in used
        ]
        return f"Δw = {change or '0'}" + "".join(traces)

    @property
    def _expansion(self) -> Expansion:
        return expand(self.terms, self.traces, self.without)

    @property
    def _free(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.frozen)

    @property
    def _learned(self) -> tuple[str, ...]:
        return tuple(name for name, trace in self._expansion.traces.items() if trace.learned)

    def _theta(self, coefficients: Float[Array, " free"], decay: Float[Array, " learned"]) -> Theta:
        return {"coefficients": coefficients, "logit_decay": decay} if self._learned else coefficients

    def _scales(self) -> Float[Array, " free"]:
        rule = self._expansion
        variables = dict(zip(rule.names, rule.variables, strict=True))
        return jnp.array([1.0 if "modulator" in variables[name] else self.hebbian_scale for name in self._free])

    def _updated_traces(self, theta: Theta, memory: Any, value: Callable[[Term], Float[Array, "*synapse"]]) -> Any:
        traces = self._expansion.traces
        if not traces:
            return memory
        decays = self.decays(theta).items()
        return {name: decay * memory[name] + (1 - decay) * value(traces[name].term) for name, decay in decays}


def _scaled(value: Any, body: str) -> str:
    return f"{float(value):.3g}" + ("" if body == "1" else f"·{body}")


def _bracketed(term: Term, symbols: tuple[str, ...]) -> str:
    text = show(term, symbols)
    return f"({text})" if len(term) > 1 or term[0].scale < 0 else text
