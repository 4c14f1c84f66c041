"""Evaluation of polynomials at all synapses of a projection, by thin matrix products."""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.rules.lifting import POST_SIDE, PRE_SIDE
from metarule.rules.terms import Term
from metarule.types import Parts

__all__ = ["factored", "matrix_form", "outer_sum", "parts"]

_POST_SIDE = (*POST_SIDE, "neuromodulator")

# Largest number of synapses of a tiny projection, where the overhead of a matrix product dominates.
_TINY = 128


def matrix_form(
    terms: tuple[Term, ...], coefficients: Float[Array, " terms"], values: Mapping[str, Any]
) -> Float[Array, "pre post"]:
    """Value Σₖ cₖ · termₖ of a polynomial at every synapse, without a tensor of features.

    Σ_d (P_d · A_d · Q_dᵀ) ∘ Sᵈ, where S are the variables of single synapses (weight and traces), d their powers,
    P_d [pre, K] and Q_d [post, K'] the pre-side and post-side monomials that occur with Sᵈ, and A_d [K, K'] is linear
    in the coefficients.

    Args:
        terms: from `parse`.
        coefficients: one for each term.
        values: arrays by variable, in the order of the variables of the terms.
    """
    total = jnp.zeros_like(values["weight"])
    groups = _factorise(terms, tuple(values))
    # One product for all groups, because on small networks the overhead of a call dominates.
    joined = np.concatenate([group.mix.reshape(len(group.mix), -1) for group in groups], axis=1)
    mixes = coefficients @ jnp.asarray(joined, coefficients.dtype)
    sizes = np.cumsum([group.mix[0].size for group in groups])[:-1].tolist()
    for group, mix in zip(groups, jnp.split(mixes, sizes), strict=True):
        pre, post = _monomials(values, PRE_SIDE, group.pre), _monomials(values, _POST_SIDE, group.post)
        change = outer_sum(pre, mix.reshape(group.mix.shape[1:]) @ post)
        total += prod((values[name] ** power for name, power in group.synapse), start=change)
    return total


def outer_sum(left: Float[Array, "k pre"], right: Float[Array, "k post"]) -> Float[Array, "pre post"]:
    """Sum of few outer products, Σₖ leftₖ ⊗ rightₖ.

    Each is written as a matrix product over an axis of size 1. XLA compiles it to a broadcast, which it fuses with the
    update of the weights. Its derivatives are matrix products, which CPUs compute several times faster than the sums
    that are the derivatives of a broadcast.
    """
    tiny = left.shape[1] * right.shape[1] <= _TINY
    pairs = ((one[:, None], other[None, :]) for one, other in zip(left, right, strict=True))
    products = [one * other if tiny else one @ other for one, other in pairs]
    return sum(products[1:], start=products[0])


def factored(terms: tuple[Term, ...], symbols: tuple[str, ...]) -> bool:
    """True if a polynomial can be written as `Parts`."""
    return all(
        not group.synapse or (group.synapse == (("weight", 1),) and not any(map(any, group.post)))
        for group in _factorise(terms, symbols)
    )


def parts(terms: tuple[Term, ...], coefficients: Float[Array, " terms"], values: Mapping[str, Any]) -> Parts:
    """Parts of a polynomial that is `factored`; arguments as of `matrix_form`."""
    weight = values["weight"]
    left, right = jnp.zeros((0, weight.shape[0]), weight.dtype), jnp.zeros((0, weight.shape[1]), weight.dtype)
    factor = jnp.zeros(weight.shape[0], weight.dtype)
    for group in _factorise(terms, tuple(values)):
        mix = jnp.tensordot(coefficients, jnp.asarray(group.mix, coefficients.dtype), axes=1)
        pre = _monomials(values, PRE_SIDE, group.pre)
        if group.synapse:
            factor = mix[:, 0] @ pre
        else:
            left, right = pre, mix @ _monomials(values, _POST_SIDE, group.post)
    return Parts(left, right, factor)


class _Group(NamedTuple):
    """Terms with the same powers of the variables of single synapses.

    Attributes:
        synapse: these powers by name, without zeros.
        pre: powers of the pre-side monomials that occur with them.
        post: powers of the post-side monomials.
        mix: scale of each pair of monomials in each term [terms, pre monomials, post monomials].
    """

    synapse: tuple[tuple[str, int], ...]
    pre: tuple[tuple[int, ...], ...]
    post: tuple[tuple[int, ...], ...]
    mix: np.ndarray


@lru_cache(maxsize=256)
def _factorise(terms: tuple[Term, ...], symbols: tuple[str, ...]) -> tuple[_Group, ...]:
    synaptic = tuple(name for name in symbols if name not in PRE_SIDE + _POST_SIDE)
    by_synaptic: dict[tuple[int, ...], list[Any]] = {}
    for index, term in enumerate(terms):
        for scale, powers in term:
            sides = (synaptic, PRE_SIDE, _POST_SIDE)
            shared, left, right = (tuple(powers[symbols.index(name)] for name in side) for side in sides)
            by_synaptic.setdefault(shared, []).append((left, right, index, scale))
    groups = []
    for shared, members in sorted(by_synaptic.items()):
        pre, post = (tuple(sorted({member[side] for member in members})) for side in range(2))
        mix = np.zeros((len(terms), len(pre), len(post)))
        for left, right, index, scale in members:
            mix[index, pre.index(left), post.index(right)] += scale
        synapse = tuple((name, power) for name, power in zip(synaptic, shared, strict=True) if power)
        groups.append(_Group(synapse, pre, post, mix))
    return tuple(groups)


def _monomials(
    values: Mapping[str, Any], names: tuple[str, ...], powers: tuple[tuple[int, ...], ...]
) -> Float[Array, "k n"]:
    side = [values[name] for name in names]
    return jnp.stack(
        [prod((v**p for v, p in zip(side, row, strict=True) if p), start=jnp.ones_like(side[0])) for row in powers]
    )
