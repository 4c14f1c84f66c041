"""Random variation of sets of terms: crossover, and mutation by adding, removing or changing a term."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, TypeAlias

from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.expansion import expand
from metarule.rules.polynomial import Polynomial
from metarule.rules.terms import Term

__all__ = ["Structure", "TermLibrary", "crossover", "mutate", "random_structure", "term_library"]

# The terms of a rule, by their numbers in a library.
Structure: TypeAlias = frozenset[int]


class TermLibrary(NamedTuple):
    """Terms that a structure may have.

    Attributes:
        names: the terms as text.
        neighbours: for each term, those that differ from it by one factor, such as pre·post from pre·post².
    """

    names: tuple[str, ...]
    neighbours: tuple[tuple[int, ...], ...]


def term_library(lifetime: Lifetime) -> TermLibrary:
    """Make a library of the terms of the rule of a learner, in the order of θ.

    Raises:
        ConfigError: the rule is not a polynomial, or has traces with learned decay or frozen terms.
    """
    rule = lifetime.rule
    if not isinstance(rule, Polynomial):
        raise ConfigError(f"rule = {type(rule).__name__}: it has no terms to choose from; allowed: Polynomial")
    if rule.frozen or any(trace.learned for trace in rule.traces.values()):
        raise ConfigError("rule: frozen terms and learned decays are not allowed here; allowed: free terms")
    terms = expand(rule.terms, rule.traces, rule.without).terms
    neighbours = [[number for number, other in enumerate(terms) if _is_neighbour(term, other)] for term in terms]
    return TermLibrary(rule.names, tuple(map(tuple, neighbours)))


def random_structure(library: TermLibrary, random: Random, most: int) -> Structure:
    """Draw a structure of 1 to `most` terms."""
    return frozenset(random.sample(range(len(library.names)), random.randint(1, min(most, len(library.names)))))


def crossover(one: Structure, other: Structure, random: Random) -> Structure:
    """Combine two parents: common terms are inherited, and each other term with probability ½."""
    single = sorted(one ^ other)
    child = (one & other) | {term for term in single if random.random() < 0.5}
    return frozenset(child or [random.choice(single or sorted(one))])


def mutate(structure: Structure, library: TermLibrary, random: Random) -> Structure:
    """Add a term, remove a term, or replace a term by one that differs from it by one factor."""
    others = sorted(set(range(len(library.names))) - structure)
    term = random.choice(sorted(structure))
    near = [other for other in library.neighbours[term] if other not in structure]
    changes: Sequence[Structure] = [
        *([structure | {random.choice(others)}] if others else []),
        *([structure - {term}] if len(structure) > 1 else []),
        *([(structure - {term}) | {random.choice(near)}] if near else []),
    ]
    return random.choice(changes) if changes else structure


def _is_neighbour(one: Term, other: Term) -> bool:
    """True for two monomials that differ by one factor."""
    if len(one) != 1 or len(other) != 1:
        return False
    return sum(abs(power - another) for power, another in zip(one[0].powers, other[0].powers, strict=True)) == 1
