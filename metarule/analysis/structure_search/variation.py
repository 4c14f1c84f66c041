"""How forms vary: terms are inherited from two parents, added, dropped, or changed by one factor."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, TypeAlias

from metarule.config.toml import ConfigError
from metarule.lifetime.learner import Lifetime
from metarule.rules.expansion import expand
from metarule.rules.polynomial import Polynomial
from metarule.rules.terms import Term

__all__ = ["Form", "Library", "crossed", "drawn", "library", "mutated"]

# The terms that a rule has, by their numbers in a library.
Form: TypeAlias = frozenset[int]


class Library(NamedTuple):
    """The terms that a form may have.

    Attributes:
        names: the terms as text.
        neighbours: for each term, those that differ from it by one factor, such as pre·post from pre·post².
    """

    names: tuple[str, ...]
    neighbours: tuple[tuple[int, ...], ...]


def library(lifetime: Lifetime) -> Library:
    """The terms of a learner's rule as a library.

    Args:
        lifetime: the learner.

    Returns:
        The library, in the order of θ.

    Raises:
        ConfigError: a rule that is no polynomial, or one with parts that are not terms: traces whose decay is learned,
            or frozen terms.
    """
    rule = lifetime.rule
    if not isinstance(rule, Polynomial):
        raise ConfigError(f"rule = {type(rule).__name__}: it has no terms to choose from; allowed: Polynomial")
    if rule.frozen or any(trace.learned for trace in rule.traces.values()):
        raise ConfigError("rule: frozen terms and learned decays are no terms to choose from; allowed: free terms")
    terms = expand(rule.terms, rule.traces, rule.without).terms
    neighbours = tuple(
        tuple(other for other, its in enumerate(terms) if _differ_by_one_factor(term, its)) for term in terms
    )
    return Library(rule.names, neighbours)


def drawn(library: Library, random: Random, most: int) -> Form:
    """A form of a few terms, drawn at random."""
    return frozenset(random.sample(range(len(library.names)), random.randint(1, min(most, len(library.names)))))


def crossed(one: Form, other: Form, random: Random) -> Form:
    """A child: terms that both parents have, and each that one of them has with chance ½."""
    single = sorted(one ^ other)
    child = (one & other) | {term for term in single if random.random() < 0.5}
    return frozenset(child or [random.choice(single or sorted(one))])


def mutated(form: Form, library: Library, random: Random) -> Form:
    """A form with a term more, a term less, or a term in place of another that differs from it by one factor."""
    others = sorted(set(range(len(library.names))) - form)
    term = random.choice(sorted(form))
    near = [other for other in library.neighbours[term] if other not in form]
    changes: Sequence[Form] = [
        *([form | {random.choice(others)}] if others else []),
        *([form - {term}] if len(form) > 1 else []),
        *([(form - {term}) | {random.choice(near)}] if near else []),
    ]
    return random.choice(changes) if changes else form


def _differ_by_one_factor(one: Term, other: Term) -> bool:
    if len(one) != 1 or len(other) != 1:
        return False
    return sum(abs(mine - its) for mine, its in zip(one[0].powers, other[0].powers, strict=True)) == 1
