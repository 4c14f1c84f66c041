"""Rules that are polynomials of the local variables, linear in θ."""

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
from metarule.rules.factorising import Parts, factored, matrix_form, parts
from metarule.rules.terms import VARIABLES, Term, evaluate, show
from metarule.rules.traces import Trace
from metarule.types import PRNGKey, Synapse, Theta

__all__ = ["Polynomial"]


class Polynomial(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="polynomial"):
    """Any set of monomials of the local variables, with one coefficient a term.

    Δw = Σₖ cₖ · termₖ(pre, post, potential, weight, modulator, …; traces)

    A term is a sum of monomials in the term language (`"pre*modulator"`, `"post^2*weight"`), the name of a classic
    rule (`"hebb"`, `"oja"`, `"bcm"`), which then has one coefficient as a whole, or a family, which stands for all its
    terms: `"seven"`, `"sixteen"`, or `"taylor(pre, post, weight; 2)"` for every product of powers up to 2.

    A trace is a moving average that each synapse keeps; its name may stand in a term as a variable does. Rules by name
    bring the traces that they need.

    θ holds the coefficients of the terms that are not frozen, in the order of `names`. Where decays are learned it is
    a dictionary of these `coefficients` and of `logit_decay`, by name of the trace in alphabetical order.

    Attributes:
        terms: what the rule is a sum of.
        traces: what each synapse remembers, by name; one of the same name replaces that of a rule by name.
        without: terms of the families that are left out.
        initial: initial coefficient by term; other terms start at 0.
        initial_spread: standard deviation, in units, of the noise added to the initial coefficients.
        frozen: terms whose coefficient stays at its initial value.
        hebbian_scale: natural size of the coefficient of a term without the modulator; that of a term with it is 1. Such
            a term changes weights whether or not anything is wrong, so that a small coefficient does much over a
            life; what moves θ takes smaller steps there.

    Raises:
        ValueError: a text that is no term, a term given twice, an initial, frozen or left out term that is not in the
            rule, or a trace that no term uses.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992.
    """

    terms: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="terms such as 'pre*modulator', rules (hebb, anti_hebb, covariance, oja, bcm, delta, "
            "rescorla_wagner, three_factor) or families (seven, sixteen, 'taylor(pre, post, weight; 2)')",
        ),
    ] = ("sixteen",)
    traces: Annotated[
        Mapping[str, Trace],
        Meta(description="moving averages at the synapse by name, such as eligibility = { of = 'pre*post' }"),
    ] = immutabledict()
    without: Annotated[tuple[str, ...], Meta(description="terms of the families that are left out")] = ()
    initial: Annotated[Mapping[str, float], Meta(description="initial coefficient by term")] = immutabledict()
    initial_spread: Annotated[
        float, Meta(ge=0, description="noise on the initial coefficients (standard deviation, in units)")
    ] = 0.0
    frozen: Annotated[tuple[str, ...], Meta(description="terms that keep their initial coefficient")] = ()
    hebbian_scale: Annotated[
        float, Meta(gt=0, description="unit in which coefficients of terms without the modulator are moved")
    ] = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = self._expansion
        for field in ("initial", "frozen"):
            for name in getattr(self, field):
                if rule.find(name) is None:
                    raise ValueError(f"{field} term '{name}' is not in the rule; its terms: {', '.join(self.names)}")
        initial = {rule.find(name): value for name, value in self.initial.items()}
        if len(initial) < len(self.initial):
            raise ValueError(f"initial terms {', '.join(self.initial)}: two of them are the same")
        force_setattr(self, "initial", immutabledict(initial))
        force_setattr(self, "frozen", tuple(rule.find(name) for name in self.frozen))
        if not self._free and not self._learned:
            what = f"frozen terms {', '.join(self.frozen)}" if self.frozen else "no terms"
            raise ValueError(f"{what}: nothing is left to learn")

    @property
    def names(self) -> tuple[str, ...]:
        """The terms, families written out, as they were given."""
        return self._expansion.names

    @property
    def meaning(self) -> dict[str, Any]:
        """What θ means besides the names of its numbers: terms and decays that stay, and what traces average."""
        traces = {
            name: {"of": show(trace.term, VARIABLES)} | ({} if trace.learned else {"decay": trace.decay})
            for name, trace in self._expansion.traces.items()
        }
        return {
            "kind": "polynomial",
            "frozen": {name: self.initial.get(name, 0.0) for name in self.frozen},
            "traces": traces,
        }

    @property
    def affine(self) -> bool:
        """Whether Δw is affine in the weight: no term has a higher power of it."""
        place = VARIABLES.index("weight")
        return all(powers[place] <= 1 for term in self._expansion.terms for _, powers in term)

    @property
    def factored(self) -> bool:
        """Whether Δw is made of `parts`: weights occur with pre alone, and synapses remember nothing."""
        rule = self._expansion
        return not rule.traces and factored(rule.terms, VARIABLES)

    def init(self, key: PRNGKey) -> Theta:
        """Initial θ: the stated coefficients of the terms that may move, plus noise, and the stated decays.

        Args:
            key: decides the noise.

        Returns:
            θ: one coefficient a free term, and one logit a learned decay.
        """
        stated = jnp.array([self.initial.get(name, 0.0) for name in self._free])
        coefficients = stated + self.initial_spread * self._sizes() * jax.random.normal(key, stated.shape)
        decays = [self._expansion.traces[name].decay for name in self._learned]
        return self._theta(coefficients, jnp.array([np.log(decay / (1 - decay)) for decay in decays]))

    def scale(self) -> Theta:
        """Natural size of each free coefficient; that of the logit of a decay is 1."""
        return self._theta(self._sizes(), jnp.ones(len(self._learned)))

    def memory(self, weight: Float[Array, "*synapse"]) -> dict[str, Float[Array, "*synapse"]] | tuple[()]:
        """The traces at birth, all at 0; `()` where there are none."""
        return {name: jnp.zeros_like(weight) for name in self._expansion.traces} or ()

    def coefficients(self, theta: Theta) -> Float[Array, " terms"]:
        """Coefficients of all terms, those that are frozen included, in the order of `names`."""
        free = theta["coefficients"] if self._learned else theta
        if not self.frozen:
            return free
        moving = iter(range(len(self._free)))
        return jnp.stack(
            [
                jnp.asarray(self.initial.get(name, 0.0), free.dtype) if name in self.frozen else free[next(moving)]
                for name in self.names
            ]
        )

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

        Args:
            theta: θ.
            memory: traces by name, or `()`.
            synapse: scalars.

        Returns:
            (Δw, memory).
        """
        memory = self._remember(theta, memory, lambda term: evaluate(term, synapse))
        values = (*synapse, *(memory[name] for name in self._expansion.traces))
        terms = [evaluate(term, values) for term in self._expansion.terms]
        return self.coefficients(theta) @ jnp.stack(terms), memory

    def update(self, theta: Theta, memory: Any, projection: Synapse) -> tuple[Float[Array, "pre post"], Any]:
        """ΔW of a projection as thin matrix products, without a tensor of features.

        Args:
            theta: θ.
            memory: traces by name [pre, post], or `()`.
            projection: arrays.

        Returns:
            (ΔW, memory).
        """
        seen, one = projection._asdict(), jnp.ones(1, projection.weight.dtype)
        memory = self._remember(theta, memory, lambda term: matrix_form((term,), one, seen))
        values = seen | {name: memory[name] for name in self._expansion.traces}
        return matrix_form(self._expansion.terms, self.coefficients(theta), values), memory

    def parts(self, theta: Theta, projection: Synapse) -> Parts:
        """What ΔW of a projection is made of, where the rule is `factored`.

        Args:
            theta: θ.
            projection: arrays.

        Returns:
            Its parts.
        """
        return parts(self._expansion.terms, self.coefficients(theta), projection._asdict())

    def describe(self, theta: Theta) -> dict[str, Float[Array, ""]]:
        """Coefficient by term and decay by trace, those that stay included."""
        coefficients = self.coefficients(theta)
        chex.assert_shape(coefficients, (len(self.names),))
        named = {name: coefficients[number] for number, name in enumerate(self.names)}
        return named | {f"decay of {name}": decay for name, decay in self.decays(theta).items()}

    def equation(self, theta: Theta) -> str:
        """The rule as a person would write it, as in `Δw = 0.5·pre·modulator − 0.01·weight`, and its traces."""
        rule = self._expansion
        coefficients = np.asarray(self.coefficients(theta))
        change = _sum(coefficients, rule.terms, rule.symbols)
        used = {
            name for term, value in zip(rule.terms, coefficients, strict=True) if value for name in rule.traced(term)
        }
        traces = [
            f", {name} ← {_scaled(decay, name)} + {_scaled(1 - decay, _bracketed(rule.traces[name].term, VARIABLES))}"
            for name, decay in self.decays(theta).items()
            if name in used
        ]
        return f"Δw = {change}" + "".join(traces)

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

    def _sizes(self) -> Float[Array, " free"]:
        rule = self._expansion
        supervised = {name for name, sees in zip(rule.names, rule.sees, strict=True) if "modulator" in sees}
        return jnp.array([1.0 if name in supervised else self.hebbian_scale for name in self._free])

    def _remember(self, theta: Theta, memory: Any, see: Callable[[Term], Float[Array, "*synapse"]]) -> Any:
        traces = self._expansion.traces
        if not traces:
            return memory
        return {
            name: decay * memory[name] + (1 - decay) * see(traces[name].term)
            for name, decay in self.decays(theta).items()
        }


def _sum(coefficients: Any, terms: tuple[Term, ...], symbols: tuple[str, ...]) -> str:
    text = ""
    for term, value in zip(terms, coefficients, strict=True):
        if value:
            sign = " − " if value < 0 else " + "
            text += (sign if text else sign.strip(" +")) + _scaled(abs(value), _bracketed(term, symbols))
    return text or "0"


def _scaled(value: Any, body: str) -> str:
    return f"{float(value):.3g}" + ("" if body == "1" else f"·{body}")


def _bracketed(term: Term, symbols: tuple[str, ...]) -> str:
    text = show(term, symbols)
    return f"({text})" if len(term) > 1 or term[0].scale < 0 else text
