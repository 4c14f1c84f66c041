"""Term language: conversion of text such as `"pre*post - post^2*weight"` to monomials and back.

Terms are parsed, never evaluated as code:

    term     = monomial { ("+" | "-") monomial }
    monomial = factor { "*" factor }
    factor   = number | variable [ "^" power ]

Variables are the fields of `Synapse` and the names of the traces of the rule.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from metarule.config.schema import Checked
from metarule.types import Synapse

__all__ = [
    "MAX_POWER",
    "VARIABLES",
    "Monomial",
    "Term",
    "Trace",
    "join_signed",
    "parse",
    "show",
    "term_value",
    "typeset",
]

VARIABLES = Synapse._fields
MAX_POWER = 8
# Limits on the characters of a term, and on its factors, whose products with weights have to fit into float32.
_MAX_LENGTH = 1000
_LEAST_SCALE, _MOST_SCALE = 1e-18, 1e18

_FACTOR = re.compile(
    r"(?:(?P<number>\d{1,40}(?:\.\d{1,40})?)|(?P<variable>[A-Za-z_]\w*)(?:\^(?P<power>\d{1,2}))?)", re.ASCII
)
_PRODUCT = re.compile(r"[A-Za-z_]\w*(?:\^\d+)?(?:\*[A-Za-z_]\w*(?:\^\d+)?)+", re.ASCII)
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
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"term '{text[:40]}…': {len(text)} characters; allowed: up to {_MAX_LENGTH}")
    compact = text.replace(" ", "")
    if not compact:
        raise ValueError("term '': empty text; allowed: '1' for the constant term")
    sums: dict[tuple[int, ...], float] = {}
    pieces = re.split(r"([+-])", compact if compact[0] in "+-" else f"+{compact}")[1:]
    for sign, body in zip(pieces[::2], pieces[1::2], strict=True):
        scale, powers = _monomial(body, text, variables)
        sums[powers] = sums.get(powers, 0.0) + (-scale if sign == "-" else scale)
    term = tuple(Monomial(scale, powers) for powers, scale in sorted(sums.items(), reverse=True) if scale)
    if not term:
        raise ValueError(f"term '{text}' is zero for all values; allowed: nonzero terms")
    for scale, _ in term:
        if not _LEAST_SCALE <= abs(scale) <= _MOST_SCALE:
            raise ValueError(f"term '{text}': factor {scale:g}; allowed: {_LEAST_SCALE:g} to {_MOST_SCALE:g} in size")
    return term


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


def show(term: Term, variables: tuple[str, ...] = VARIABLES) -> str:
    """Format a term as in papers, such as `pre·post − post²·weight`."""
    parts = []
    for scale, powers in term:
        factors = [
            name + (str(power).translate(_SUPERSCRIPTS) if power > 1 else "")
            for name, power in zip(variables, powers, strict=True)
            if power
        ]
        number = [f"{abs(scale):g}"] if abs(scale) != 1 or not factors else []
        parts.append((scale, "·".join(number + factors)))
    return join_signed(parts)


def typeset(text: str) -> str:
    """Format a name of parameters as in papers, such as `post²·weight` for `weight*post^2`, without parsing it.

    Factors are in the order of `show`, with traces last, so that a term has one name in equations, tables and figures.
    """
    ordered = _PRODUCT.sub(lambda product: "*".join(sorted(product[0].split("*"), key=_place)), text)
    raised = re.sub(r"\^(\d+)", lambda power: power[1].translate(_SUPERSCRIPTS), ordered)
    return raised.replace("*", "·").replace(" - ", " − ")


def _place(factor: str) -> int:
    name = factor.partition("^")[0]
    return VARIABLES.index(name) if name in VARIABLES else len(VARIABLES)


def join_signed(parts: Iterable[tuple[Any, str]]) -> str:
    """Join a sum from (a number with the sign, text of the absolute value)."""
    total = ""
    for number, text in parts:
        sign = " − " if number < 0 else " + "
        total += (sign if total else sign.strip(" +")) + text
    return total


def term_value(term: Term, values: Sequence[Any]) -> Float[Array, ""]:
    """Value Σₘ sₘ Π_v vᵖ of a term at one synapse, from scalars in the order of the variables of the term."""
    dtype = jnp.result_type(*(value for value in values if value is not None))
    monomials = (
        prod((v**p for v, p in zip(values, powers, strict=True) if p), start=jnp.asarray(scale, dtype))
        for scale, powers in term
    )
    return sum(monomials, start=jnp.zeros((), dtype))


class Trace(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Moving average of a term at each synapse, such as an eligibility trace or a sliding threshold.

    e ← λ·e + (1 − λ)·of

    It starts at 0 and is updated before the weight changes, so that terms with it include the present step.

    Attributes:
        of: the averaged term, in the variables of a synapse, such as `"pre*post"`.
        decay: λ, between 0 and 1; the time constant is about 1/(1 − λ) steps.
        learned: whether λ is a parameter in θ (as its logit) with the initial value `decay`; otherwise it is fixed.

    Raises:
        ValueError: a text that is not a term, or a decay that is not between 0 and 1.

    References:
        Sutton, Barto 1981 (eligibility traces); Gerstner et al. 2018 (three-factor rules).
    """

    of: str
    decay: float = 0.9
    learned: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.term
        if not 0 < self.decay < 1:
            raise ValueError(f"decay = {self.decay} of the trace of '{self.of}'; allowed: above 0 and below 1")

    @property
    def term(self) -> Term:
        """The averaged term, parsed."""
        return parse(self.of)
