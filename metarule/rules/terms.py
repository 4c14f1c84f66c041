"""Term language: conversion of text such as `"pre*post - post^2*weight"` to monomials and back.

Terms are parsed, never evaluated:

    term     = monomial { ("+" | "-") monomial }
    monomial = factor { "*" factor }
    factor   = number | variable [ "^" power ]

Variables are the fields of `Synapse` and the names of the traces of the rule.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.types import Synapse

__all__ = ["MAX_LENGTH", "MAX_POWER", "VARIABLES", "Monomial", "Term", "evaluate", "parse", "show"]

VARIABLES = Synapse._fields
MAX_POWER = 8
# Limits on the characters of a term, and on its factors, whose products with weights have to fit into float32.
MAX_LENGTH = 1000
LEAST_SCALE, MOST_SCALE = 1e-18, 1e18

_FACTOR = re.compile(
    r"(?:(?P<number>\d{1,40}(?:\.\d{1,40})?)|(?P<variable>[A-Za-z_]\w*)(?:\^(?P<power>\d{1,2}))?)", re.ASCII
)
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Monomial(NamedTuple):
    """scale · Π variableᵖᵒʷᵉʳ, with one power for each variable."""

    scale: float
    powers: tuple[int, ...]


Term = tuple[Monomial, ...]


@lru_cache(maxsize=4096)
def parse(text: str, variables: tuple[str, ...] = VARIABLES) -> Term:
    """Parse a term.

    Args:
        text: a sum of monomials, such as `"pre*post - post^2*weight"`.
        variables: names that may occur in it.

    Returns:
        Its monomials in canonical form: two texts are equivalent if and only if these are equal.

    Raises:
        ValueError: the text is not a term.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"term '{text[:40]}…': {len(text)} characters; allowed: up to {MAX_LENGTH}")
    compact = text.replace(" ", "")
    if not compact:
        raise ValueError("term '': empty text; allowed: '1' for the constant term")
    sums: dict[tuple[int, ...], float] = {}
    for sign, body in _signed(compact):
        monomial = _monomial(body, text, variables)
        sums[monomial.powers] = sums.get(monomial.powers, 0.0) + sign * monomial.scale
    term = tuple(Monomial(scale, powers) for powers, scale in sorted(sums.items(), reverse=True) if scale)
    if not term:
        raise ValueError(f"term '{text}' is zero for all values; allowed: nonzero terms")
    for scale, _ in term:
        if not LEAST_SCALE <= abs(scale) <= MOST_SCALE:
            raise ValueError(f"term '{text}': factor {scale:g}; allowed: {LEAST_SCALE:g} to {MOST_SCALE:g} in size")
    return term


def show(term: Term, variables: tuple[str, ...] = VARIABLES) -> str:
    """Format a term as in papers, such as `pre·post − post²·weight`."""
    text = ""
    for scale, powers in term:
        names = [
            name + (str(power).translate(_SUPERSCRIPTS) if power > 1 else "")
            for name, power in zip(variables, powers, strict=True)
            if power
        ]
        number = [f"{abs(scale):g}"] if abs(scale) != 1 or not names else []
        sign = " − " if scale < 0 else " + "
        text += (sign if text else sign.strip(" +")) + "·".join(number + names)
    return text


def evaluate(term: Term, values: Sequence[Any]) -> Float[Array, ""]:
    """Value of a term at one synapse.

    Σₘ sₘ Π_v vᵖ

    Args:
        term: from `parse`.
        values: scalar of each variable, in the order of the variables of the term.

    Returns:
        The value.
    """
    dtype = jnp.result_type(*(value for value in values if value is not None))
    return sum(
        (
            prod((v**p for v, p in zip(values, powers, strict=True) if p), start=jnp.asarray(scale, dtype))
            for scale, powers in term
        ),
        start=jnp.zeros((), dtype),
    )


def _signed(compact: str) -> list[tuple[float, str]]:
    if compact[0] not in "+-":
        compact = "+" + compact
    pieces = re.split(r"([+-])", compact)[1:]
    return [(-1.0 if sign == "-" else 1.0, body) for sign, body in zip(pieces[::2], pieces[1::2], strict=True)]


def _monomial(body: str, text: str, variables: tuple[str, ...]) -> Monomial:
    scale, powers = 1.0, dict.fromkeys(variables, 0)
    for factor in body.split("*"):
        match = _FACTOR.fullmatch(factor)
        if match is None:
            raise ValueError(
                f"term '{text}': '{factor}' is not a factor; allowed: a number, or one of "
                f"{', '.join(variables)} with an optional power, as in 'pre*modulator' or 'post^2*weight'"
            )
        if match["number"]:
            scale *= float(match["number"])
            continue
        name = match["variable"]
        if name not in powers:
            raise ValueError(f"term '{text}': '{name}' is not a variable; allowed: {', '.join(variables)}")
        powers[name] += int(match["power"] or 1)
        if not 1 <= powers[name] <= MAX_POWER:
            raise ValueError(f"term '{text}': power {powers[name]} of {name}; allowed: 1 to {MAX_POWER}")
    return Monomial(scale, tuple(powers.values()))
