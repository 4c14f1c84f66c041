"""Evaluation of polynomials at all synapses of a projection, by thin matrix products."""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metarule.rules.lifting import POST_SIDE, PRE_SIDE
from metarule.rules.products import outer_sum
from metarule.rules.terms import Term
from metarule.types import Parts

__all__ = ["factored", "matrix_form", "parts"]

_POST_SIDE = (*POST_SIDE, "neuromodulator")


def matrix_form(
    terms: tuple[Term, ...], coefficients: Float[Array, " terms"], values: Mapping[str, Any]
) -> Float[Array, "pre post"]:
    """Value of a polynomial at every synapse, without a tensor of features.

    Σ_d (P_d · A_d · Q_dᵀ) ∘ Sᵈ, where S are the variables of single synapses (weight and traces), d their powers,
    P_d [pre, K] and Q_d [post, K'] the pre-side and post-side monomials that occur with Sᵈ, and A_d [K, K'] is linear
    in the coefficients.

    Args:
        terms: from `parse`.
        coefficients: one for each term.
        values: arrays by variable, in the order of the variables of the terms.

    Returns:
        Σₖ cₖ · termₖ.
    """
    total = jnp.zeros_like(values["weight"])
    groups = _factorise(terms, tuple(values))
    # One product for all groups, because on small networks the overhead of a call dominates.
    mixes = coefficients @ jnp.asarray(_joined_mixes(groups), coefficients.dtype)
    sizes = np.cumsum([group.mix[0].size for group in groups])[:-1].tolist()
    for group, mix in zip(groups, jnp.split(mixes, sizes), strict=True):
        pre = _monomials(values, PRE_SIDE, group.pre)
        post = _monomials(values, _POST_SIDE, group.post)
        change = outer_sum(pre, mix.reshape(group.mix.shape[1:]) @ post)
        total += prod((values[name] ** power for name, power in group.synapse), start=change)
    return total


def factored(terms: tuple[Term, ...], symbols: tuple[str, ...]) -> bool:
    """Check that a polynomial can be written as `Parts`."""
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
    entries = [
        (
            _power(powers, symbols, synaptic),
            _power(powers, symbols, PRE_SIDE),
            _power(powers, symbols, _POST_SIDE),
            index,
            scale,
        )
        for index, term in enumerate(terms)
        for scale, powers in term
    ]
    groups = []
    for shared in sorted({entry[0] for entry in entries}):
        members = [entry[1:] for entry in entries if entry[0] == shared]
        pre = tuple(sorted({member[0] for member in members}))
        post = tuple(sorted({member[1] for member in members}))
        mix = np.zeros((len(terms), len(pre), len(post)))
        for left, right, index, scale in members:
            mix[index, pre.index(left), post.index(right)] += scale
        synapse = tuple((name, power) for name, power in zip(synaptic, shared, strict=True) if power)
        groups.append(_Group(synapse, pre, post, mix))
    return tuple(groups)


def _joined_mixes(groups: tuple[_Group, ...]) -> np.ndarray:
    return np.concatenate([group.mix.reshape(len(group.mix), -1) for group in groups], axis=1)


def _power(powers: tuple[int, ...], symbols: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(powers[symbols.index(name)] for name in names)


def _monomials(
    values: Mapping[str, Any], names: tuple[str, ...], powers: tuple[tuple[int, ...], ...]
) -> Float[Array, "k n"]:
    side = [values[name] for name in names]
    return jnp.stack(
        [prod((v**p for v, p in zip(side, row, strict=True) if p), start=jnp.ones_like(side[0])) for row in powers]
    )
