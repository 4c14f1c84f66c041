"""Expansion of the declaration of a polynomial rule into terms: families, rules by name and their traces."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from metarule.rules.presets import FAMILIES, RULES, TRACES
from metarule.rules.terms import MAX_POWER, VARIABLES, Term, Trace, parse

__all__ = ["Expansion", "expand", "products"]

# Every monomial adds operations to the compiled lifetime.
_MAX_TERMS = 1024
_MAX_TRACES = 32

_FAMILY = re.compile(r"(?P<kind>taylor|symmetric)\((?P<variables>[^;()]*);(?P<degree>\d{1,3})\)")
_KINDS = ("taylor(", "symmetric(")
# Variables that change sign with the presynaptic neuron, and with the postsynaptic one.
_PRESYNAPTIC = ("pre", "pre_trace", "weight")
_POSTSYNAPTIC = ("post", "post_trace", "potential", "modulator", "weight")


class Expansion(NamedTuple):
    """Terms and traces of a polynomial rule.

    Attributes:
        names: its terms as text.
        terms: the same terms, parsed.
        traces: its traces by name.
        variables: variables of a synapse that affect each term, directly or through its traces.
    """

    names: tuple[str, ...]
    terms: tuple[Term, ...]
    traces: Mapping[str, Trace]
    variables: tuple[frozenset[str], ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names that may occur in a term: the variables of a synapse, then the traces."""
        return VARIABLES + tuple(self.traces)

    def find(self, text: str) -> str | None:
        """Name of the term that equals a text; None if there is none."""
        term = _parse(text, self.symbols)
        return self.names[self.terms.index(term)] if term in self.terms else None

    def traces_of(self, term: Term) -> set[str]:
        """Traces that occur in a term."""
        return set(_names_in(term, self.symbols)) & set(self.traces)


@lru_cache(maxsize=256)
def expand(texts: tuple[str, ...], traces: Mapping[str, Trace], without: tuple[str, ...]) -> Expansion:
    """Expand a polynomial rule.

    Args:
        texts: terms, rules by name and families.
        traces: traces by name; they replace traces of rules by name.
        without: terms to leave out of the families.

    Returns:
        Its terms and traces.

    Raises:
        ValueError: a text that is not a term, a term given twice other than by families, a trace with a name in use or
            that no term uses, a term to leave out that is in no family, or too many of them.
    """
    for field, given, most in (("terms", texts, _MAX_TERMS), ("traces", traces, _MAX_TRACES)):
        if len(given) > most:
            raise ValueError(f"{field}: {len(given)} given; allowed: up to {most}")
    for name in traces:
        _check_name(name)
    preset = {name: trace for text in texts for name, trace in TRACES.get(text, {}).items()}
    # Alphabetical order, so that rules that differ in the order of traces are equal.
    all_traces = dict(sorted((preset | dict(traces)).items()))
    symbols = VARIABLES + tuple(all_traces)
    excluded = {_parse(text, symbols): text for text in without}
    terms: dict[Term, str] = {}
    unused = set(excluded)
    for text in texts:
        family = products(text, symbols) if text.strip().startswith(_KINDS) else FAMILIES.get(text)
        for name in family or (text,):
            term = _parse(name, symbols)
            if family and term in excluded:
                unused.discard(term)
            elif term not in terms:
                terms[term] = name
            elif not family:
                raise ValueError(f"terms '{terms[term]}' and '{name}' are equal; allowed: distinct terms")
    if (count := sum(map(len, terms))) > _MAX_TERMS:
        raise ValueError(f"terms: {count} monomials; allowed: up to {_MAX_TERMS} in all")
    for term in unused:
        raise ValueError(f"without: '{excluded[term]}' is in no family of the rule; allowed: terms of its families")
    symbols_of_terms = [_names_in(term, symbols) for term in terms]
    for name in all_traces:
        if not any(name in names for names in symbols_of_terms):
            raise ValueError(f"trace '{name}' occurs in no term; allowed: traces that a term uses")
    variables = tuple(_variables(names, all_traces) for names in symbols_of_terms)
    return Expansion(tuple(terms.values()), tuple(terms), all_traces, variables)


@lru_cache(maxsize=256)
def products(text: str, variables: tuple[str, ...] = VARIABLES) -> tuple[str, ...]:
    """List products of powers of some variables as terms.

    Πᵥ vᵖᵛ for all 0 ≤ pᵥ ≤ degree (`taylor`), or those that change sign with Δw (`symmetric`)

    A network of tanh neurons computes the same if a hidden neuron changes sign with all of its weights and its
    modulator. Under a rule of symmetric terms it also learns the same. If all neurons and targets change sign it learns
    the negative function, equally well. Symmetric terms are odd in pre and weight together, and odd in post, potential,
    modulator and weight together. Sigmoid outputs become 1 − post, so that terms with post are symmetric in hidden
    neurons alone.

    Args:
        text: variables and their highest power, such as `"taylor(pre, post, weight; 2)"`.
        variables: names that may occur in it; in `symmetric` only those of a synapse.

    Returns:
        The terms, such as `"pre*post^2"`; the first of `taylor` is `"1"`.

    Raises:
        ValueError: a text that is not such a family, or too many terms.

    References:
        Confavreux, Zenke, Agnes, Lillicrap, Vogels 2020; Mehta, Tyulmankov, Rajagopalan, Turner, Fitzgerald, Funke
        2024: 27 terms in pre, post and weight, and 81 with a reward. Chen, Lu, Hecht-Nielsen 1993: changes of sign.
    """
    match = _FAMILY.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError(
            f"family '{text}'; allowed: variables and their highest power, as in 'taylor(pre, post, weight; 2)' or "
            "'symmetric(pre, post, weight; 2)'"
        )
    kind, names, degree = match["kind"], match["variables"].split(","), int(match["degree"])
    allowed = variables if kind == "taylor" else VARIABLES
    for number, name in enumerate(names):
        if name not in allowed:
            raise ValueError(f"family '{text}': '{name}' is not a variable; allowed: {', '.join(allowed)}")
        if name in names[:number]:
            raise ValueError(f"family '{text}': '{name}' is given twice")
    if not 1 <= degree <= MAX_POWER:
        raise ValueError(f"family '{text}': power {degree}; allowed: 1 to {MAX_POWER}")
    if (count := (degree + 1) ** len(names)) > _MAX_TERMS:
        raise ValueError(f"family '{text}': {count} products; allowed: up to {_MAX_TERMS}")
    powers = [dict(zip(names, term, strict=True)) for term in product(range(degree + 1), repeat=len(names))]
    terms = powers if kind == "taylor" else [term for term in powers if _is_symmetric(term)]
    return tuple("*".join(_factor(*factor) for factor in term.items() if factor[1]) or "1" for term in terms)


def _is_symmetric(powers: Mapping[str, int]) -> bool:
    """True for a product that changes sign with the presynaptic neuron, and with the postsynaptic one."""
    return all(sum(powers.get(name, 0) for name in names) % 2 for names in (_PRESYNAPTIC, _POSTSYNAPTIC))


def _factor(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"


def _parse(text: str, symbols: tuple[str, ...]) -> Term:
    return parse(RULES.get(text, text), symbols)


def _names_in(term: Term, symbols: tuple[str, ...]) -> list[str]:
    columns = zip(*(powers for _, powers in term), strict=True)
    return [name for name, column in zip(symbols, columns, strict=True) if any(column)]


def _variables(names: list[str], traces: Mapping[str, Trace]) -> frozenset[str]:
    averaged = [name for trace in names if trace in traces for name in _names_in(traces[trace].term, VARIABLES)]
    return frozenset(names + averaged) & frozenset(VARIABLES)


def _check_name(name: str) -> None:
    if not (name.isascii() and name.isidentifier()):
        raise ValueError(f"trace '{name}': allowed: letters, digits and _, no digit first")
    for kind, names in (("variable", VARIABLES), ("rule", RULES), ("family", FAMILIES)):
        if name in names:
            raise ValueError(f"trace '{name}': the name is that of a {kind}; allowed: other names")
