"""Rules that are polynomials of the local variables, linear in θ."""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from immutabledict import immutabledict
from jaxtyping import Array, Float
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from metarule.rules.presets import FAMILIES, RULES
from metarule.rules.terms import VARIABLES, Term, parse, show
from metarule.types import PRNGKey, Synapse

__all__ = ["Polynomial"]

_PRE_SIDE = ("pre", "pre_trace")
_POST_SIDE = ("post", "potential", "modulator", "post_trace", "neuromodulator")


class Polynomial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="polynomial"):
    """Any set of monomials of the local variables, with one coefficient a term.

    Δw = Σₖ cₖ · termₖ(pre, post, potential, weight, modulator)

    A term is a sum of monomials in the term language (`"pre*modulator"`, `"post^2*weight"`), the name of a classic
    rule (`"hebb"`, `"oja"`, `"delta"`), which then has one coefficient as a whole, or the name of a family
    (`"seven"`, `"sixteen"`), which stands for all its terms. θ holds the coefficients of the terms that are not
    frozen, in the order of `names`.

    Attributes:
        terms: what the rule is a sum of.
        initial: initial coefficient by term; other terms start at 0.
        initial_spread: standard deviation, in units, of the noise added to the initial coefficients.
        frozen: terms whose coefficient stays at its initial value.
        hebbian_unit: natural size of the coefficient of a term without the modulator; that of a term with it is 1. Such
            a term changes weights whether or not anything is wrong, so that a small coefficient does much over a
            life; what moves θ takes smaller steps there.

    Raises:
        ValueError: a text that is no term, a term given twice, or an initial or frozen term that is not in the rule.

    References:
        S. Bengio, Y. Bengio, J. Cloutier, J. Gecsei, "On the Optimization of a Synaptic Learning Rule", 1992.
    """

    terms: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="terms such as 'pre*modulator', rules (hebb, oja, delta) or families (seven, sixteen)",
        ),
    ] = ("sixteen",)
    initial: Annotated[Mapping[str, float], Meta(description="initial coefficient by term")] = immutabledict()
    initial_spread: Annotated[
        float, Meta(ge=0, description="noise on the initial coefficients (standard deviation, in units)")
    ] = 0.0
    frozen: Annotated[tuple[str, ...], Meta(description="terms that keep their initial coefficient")] = ()
    hebbian_unit: Annotated[
        float, Meta(gt=0, description="unit in which coefficients of terms without the modulator are moved")
    ] = 0.1

    def __post_init__(self) -> None:
        force_setattr(self, "initial", immutabledict(self.initial))
        seen: dict[Term, str] = {}
        for name in self.names:
            if (term := _parse(name)) in seen:
                raise ValueError(f"terms '{seen[term]}' and '{name}' are the same")
            seen[term] = name
        for field in ("initial", "frozen"):
            for name in getattr(self, field):
                if name not in self.names:
                    raise ValueError(f"{field} term '{name}' is not in the rule; its terms: {', '.join(self.names)}")

        if not self._free:
            raise ValueError(f"frozen terms {', '.join(self.frozen)}: nothing is left to learn")

    @property
    def names(self) -> tuple[str, ...]:
        """The terms, families written out, as they were given."""
        return tuple(name for term in self.terms for name in FAMILIES.get(term, (term,)))

    @property
    def variables(self) -> tuple[str, ...]:
        """Local variables that occur in its terms."""
        powers = [monomial.powers for name in self.names for monomial in _parse(name)]
        return tuple(name for name, column in zip(VARIABLES, zip(*powers), strict=True) if any(column))

    def init(self, key: PRNGKey) -> Float[Array, " free"]:
        """Initial θ: the stated coefficients of the terms that may move, plus noise.

        Args:
            key: decides the noise.

        Returns:
            θ, one coefficient a free term.
        """
        stated = jnp.array([self.initial.get(name, 0.0) for name in self._free])
        return stated + self.initial_spread * self.units() * jax.random.normal(key, stated.shape)

    def units(self) -> Float[Array, " free"]:
        """Natural size of each free coefficient."""
        supervised = {
            name for name in self._free if any(powers[VARIABLES.index("modulator")] for _, powers in _parse(name))
        }
        return jnp.array([1.0 if name in supervised else self.hebbian_unit for name in self._free])

    def memory(self, weight: Float[Array, "*synapse"]) -> tuple[()]:
        """A polynomial rule remembers nothing."""
        return ()

    def coefficients(self, theta: Float[Array, " free"]) -> Float[Array, " terms"]:
        """Coefficients of all terms, those that are frozen included, in the order of `names`."""
        if not self.frozen:
            return theta
        moving = iter(range(len(self._free)))
        return jnp.stack(
            [
                jnp.asarray(self.initial.get(name, 0.0), theta.dtype) if name in self.frozen else theta[next(moving)]
                for name in self.names
            ]
        )

    def delta(self, theta: Float[Array, " free"], memory: Any, synapse: Synapse) -> tuple[Float[Array, ""], Any]:
        """Δw of one synapse, term by term.

        Δw = Σₖ cₖ Σₘ sₘ Π_v vᵖ

        Args:
            theta: coefficients of the free terms.
            memory: `()`.
            synapse: scalars.

        Returns:
            (Δw, memory).
        """
        terms = [_evaluate(_parse(name), synapse) for name in self.names]
        return self.coefficients(theta) @ jnp.stack(terms), memory

    def update(
        self, theta: Float[Array, " free"], memory: Any, projection: Synapse
    ) -> tuple[Float[Array, "pre post"], Any]:
        """ΔW of a projection as thin matrix products, without a tensor of features.

        ΔW = Σ_d (P_d · A_d · Q_dᵀ) ∘ Wᵈ, where P_d [pre, K] and Q_d [post, K'] hold the pre-side and post-side
        monomials that occur with the d-th power of the weight, and A_d [K, K'] is linear in θ.

        Args:
            theta: coefficients of the free terms.
            memory: `()`.
            projection: arrays.

        Returns:
            (ΔW, memory).
        """
        coefficients = self.coefficients(theta)
        total = jnp.zeros_like(projection.weight)
        for group in _factorise(self.names):
            pre = _monomials(projection, _PRE_SIDE, group.pre)
            post = _monomials(projection, _POST_SIDE, group.post)
            mix = jnp.tensordot(coefficients, jnp.asarray(group.mix, coefficients.dtype), axes=1)
            change = pre.T @ (mix @ post)
            total += change * projection.weight**group.weight if group.weight else change
        return total, memory

    def describe(self, theta: Float[Array, " free"]) -> dict[str, Float[Array, ""]]:
        """Coefficient by term, frozen terms included."""
        return dict(zip(self.names, self.coefficients(theta), strict=True))

    def equation(self, theta: Float[Array, " free"]) -> str:
        """The rule as a person would write it, as in `Δw = 0.5·pre·modulator − 0.01·weight`."""
        text = ""
        for name, value in zip(self.names, np.asarray(self.coefficients(theta)), strict=True):
            term = _parse(name)
            body = f"({show(term)})" if len(term) > 1 else show(term)
            if value:
                sign = " − " if value < 0 else " + "
                text += (sign if text else sign.strip(" +")) + f"{abs(value):.3g}" + ("" if body == "1" else f"·{body}")
        return f"Δw = {text or '0'}"

    @property
    def _free(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.frozen)


def _parse(name: str) -> Term:
    return parse(RULES.get(name, name))


class _Group(NamedTuple):
    """The terms that share one power of the weight: which monomials stand on either side, and how θ mixes them."""

    weight: int
    pre: tuple[tuple[int, ...], ...]
    post: tuple[tuple[int, ...], ...]
    mix: np.ndarray


@lru_cache(maxsize=256)
def _factorise(names: tuple[str, ...]) -> tuple[_Group, ...]:
    entries = [
        (_power(powers, ("weight",))[0], _power(powers, _PRE_SIDE), _power(powers, _POST_SIDE), index, scale)
        for index, name in enumerate(names)
        for scale, powers in _parse(name)
    ]
    groups = []
    for weight in sorted({entry[0] for entry in entries}):
        members = [entry[1:] for entry in entries if entry[0] == weight]
        pre = tuple(sorted({member[0] for member in members}))
        post = tuple(sorted({member[1] for member in members}))
        mix = np.zeros((len(names), len(pre), len(post)))
        for left, right, index, scale in members:
            mix[index, pre.index(left), post.index(right)] += scale
        groups.append(_Group(weight, pre, post, mix))
    return tuple(groups)


def _power(powers: tuple[int, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(powers[VARIABLES.index(name)] for name in names)


def _monomials(projection: Synapse, names: tuple[str, ...], powers: tuple[tuple[int, ...], ...]) -> Float[Array, "k n"]:
    values = [getattr(projection, name) for name in names]
    return jnp.stack(
        [prod((v**p for v, p in zip(values, row, strict=True) if p), start=jnp.ones_like(values[0])) for row in powers]
    )


def _evaluate(term: Term, synapse: Synapse) -> Float[Array, ""]:
    return sum(
        (
            prod(
                (v**p for v, p in zip(synapse, powers, strict=True) if p),
                start=jnp.asarray(scale, synapse.weight.dtype),
            )
            for scale, powers in term
        ),
        start=jnp.zeros_like(synapse.weight),
    )
