"""From what a polynomial rule says to its terms: families written out, rules by name with their traces."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from metarule.rules.presets import FAMILIES, RULES, TRACES
from metarule.rules.terms import MAX_POWER, VARIABLES, Term, parse
from metarule.rules.traces import Trace

__all__ = ["MAX_TERMS", "Expansion", "expand", "taylor"]

# Each term, and each of its monomials, is a piece of the program that a lifetime becomes.
MAX_TERMS = 1024
MAX_TRACES = 32

_TAYLOR = re.compile(r"taylor\((?P<variables>[^;()]*);(?P<degree>\d{1,3})\)")


class Expansion(NamedTuple):
    """A polynomial rule written out.

    Attributes:
        names: its terms, as they were given.
        terms: the same, read.
        traces: what its synapses remember, by name.
        sees: variables of a synapse that decide each term, those that its traces average included.
    """

    names: tuple[str, ...]
    terms: tuple[Term, ...]
    traces: Mapping[str, Trace]
    sees: tuple[frozenset[str], ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """What may stand in a term: the variables of a synapse, then the traces."""
        return VARIABLES + tuple(self.traces)

    def find(self, text: str) -> str | None:
        """Name of the term that means the same as a text, if there is one."""
        term = _read(text, self.symbols)
        return self.names[self.terms.index(term)] if term in self.terms else None

    def traced(self, term: Term) -> set[str]:
        """Traces that stand in a term."""
        return set(_occurring(term, self.symbols)) & set(self.traces)


@lru_cache(maxsize=256)
def expand(texts: tuple[str, ...], traces: Mapping[str, Trace], without: tuple[str, ...]) -> Expansion:
    """Write a polynomial rule out.

    Args:
        texts: terms, rules by name and families.
        traces: traces by name; one of the same name replaces that of a rule by name.
        without: terms of the families that are left out.

    Returns:
        Its terms and traces.

    Raises:
        ValueError: a text that is no term, a term given twice other than by families, a trace whose name is taken or
            that no term uses, a term that is to be left out but is in no family of the rule, or too many of them.
    """
    for what, given, most in (("terms", texts, MAX_TERMS), ("traces", traces, MAX_TRACES)):
        if len(given) > most:
            raise ValueError(f"{what}: {len(given)} of them; allowed: up to {most}")
    for name in traces:
        _check_name(name)
    brought = {name: trace for text in texts for name, trace in TRACES.get(text, {}).items()}
    # In alphabetical order: that in which they were given is no part of what makes two rules equal.
    named = dict(sorted((brought | dict(traces)).items()))
    symbols = VARIABLES + tuple(named)
    left_out = {_read(text, symbols): text for text in without}
    seen: dict[Term, str] = {}
    missed = set(left_out)
    for name, from_family in _members(texts, symbols):
        term = _read(name, symbols)
        if from_family and term in left_out:
            missed.discard(term)
        elif term in seen and from_family:
            continue
        elif term in seen:
            raise ValueError(f"terms '{seen[term]}' and '{name}' are the same")
        else:
            seen[term] = name
    if (count := sum(map(len, seen))) > MAX_TERMS:
        raise ValueError(f"terms: they have {count} monomials; allowed: up to {MAX_TERMS} in all")
    for term in missed:
        raise ValueError(f"without term '{left_out[term]}' is in no family of the rule")
    occurring = [_occurring(term, symbols) for term in seen]
    used = set[str]().union(*occurring)
    for name in named:
        if name not in used:
            raise ValueError(f"trace '{name}' stands in no term")
    return Expansion(tuple(seen.values()), tuple(seen), named, tuple(_sees(names, named) for names in occurring))


@lru_cache(maxsize=256)
def taylor(text: str, variables: tuple[str, ...] = VARIABLES) -> tuple[str, ...]:
    """Every product of powers of some variables, as terms.

    Πᵥ vᵖᵛ for all 0 ≤ pᵥ ≤ degree

    Args:
        text: such as `"taylor(pre, post, weight; 2)"`: variables, then their highest power.
        variables: names that may stand in it.

    Returns:
        The terms, such as `"pre*post^2"`; the first is `"1"`.

    Raises:
        ValueError: a text that is no such family, or one with too many terms.

    References:
        Confavreux, Zenke, Agnes, Lillicrap, Vogels 2020; Mehta, Tyulmankov, Rajagopalan, Turner,
        Fitzgerald, Funke 2024: 27 terms in pre, post and weight, and 81 with a reward.
    """
    match = _TAYLOR.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ValueError(
            f"family '{text}' cannot be read; variables, then their highest power, as in 'taylor(pre, post, weight; 2)'"
        )
    names, degree = match["variables"].split(","), int(match["degree"])
    for number, name in enumerate(names):
        if name not in variables:
            raise ValueError(f"family '{text}' names no variable '{name}'; allowed: {', '.join(variables)}")
        if name in names[:number]:
            raise ValueError(f"family '{text}' names '{name}' twice")
    if not 1 <= degree <= MAX_POWER:
        raise ValueError(f"family '{text}' goes up to power {degree}; allowed: 1 to {MAX_POWER}")
    if (count := (degree + 1) ** len(names)) > MAX_TERMS:
        raise ValueError(f"family '{text}' has {count} terms; allowed: up to {MAX_TERMS}")
    return tuple(_product(names, powers) for powers in product(range(degree + 1), repeat=len(names)))


def _product(names: list[str], powers: tuple[int, ...]) -> str:
    factors = [name if power == 1 else f"{name}^{power}" for name, power in zip(names, powers, strict=True) if power]
    return "*".join(factors) or "1"


def _members(texts: tuple[str, ...], symbols: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """The terms in their order, and whether each comes from a family."""
    for text in texts:
        family = taylor(text, symbols) if text.strip().startswith("taylor(") else FAMILIES.get(text)
        yield from ((name, True) for name in family) if family else ((text, False),)


def _read(text: str, symbols: tuple[str, ...]) -> Term:
    return parse(RULES.get(text, text), symbols)


def _occurring(term: Term, symbols: tuple[str, ...]) -> list[str]:
    columns = zip(*(powers for _, powers in term), strict=True)
    return [name for name, column in zip(symbols, columns, strict=True) if any(column)]


def _sees(occurring: list[str], traces: Mapping[str, Trace]) -> frozenset[str]:
    averaged = [name for trace in occurring if trace in traces for name in _occurring(traces[trace].term, VARIABLES)]
    return frozenset(occurring + averaged) & frozenset(VARIABLES)


def _check_name(name: str) -> None:
    if not (name.isascii() and name.isidentifier()):
        raise ValueError(f"trace '{name}': a name is made of letters, digits and _, and does not begin with a digit")
    if name in VARIABLES or name in RULES or name in FAMILIES:
        kind = "variable" if name in VARIABLES else "rule" if name in RULES else "family"
        raise ValueError(f"trace '{name}': this is the name of a {kind}")
