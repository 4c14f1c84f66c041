"""NSGA-II over forms: those that no other beats both in meta-loss and in number of terms survive and have children."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from metarule.analysis.structure_search.nsga2 import layers, selected
from metarule.analysis.structure_search.variation import Form, Library, crossed, drawn, mutated

__all__ = ["Candidate", "Generation", "evolve", "first_generation", "front"]

# Terms of the first forms, at most: what is not needed is not there to begin with.
_FEW = 4
# Children that are tried for one that was not met before.
_TRIES = 20
_WORST = 1e30


class Candidate(NamedTuple):
    """A form and what it is worth.

    Attributes:
        form: its terms.
        loss: its meta-loss on training tasks, once its coefficients are learned.
    """

    form: Form
    loss: float


class Generation(NamedTuple):
    """Where the search is.

    Attributes:
        number: generations so far.
        population: the forms that survived.
        met: meta-loss of every form that was ever fitted.
    """

    number: int
    population: tuple[Candidate, ...]
    met: Mapping[Form, float]


# Meta-losses of forms, in their order.
Fit = Callable[[Sequence[Form]], Sequence[float]]


def first_generation(library: Library, size: int, seed: int, fit: Fit) -> Generation:
    """Forms of a few terms.

    Args:
        library: the terms.
        size: forms.
        seed: decides which.
        fit: finds their meta-losses.

    Returns:
        Generation 0.
    """
    random = _random(seed, 0)
    forms: dict[Form, None] = {}
    for _ in range(_TRIES * size):
        if len(forms) < size:
            forms[drawn(library, random, _FEW)] = None
    population = tuple(map(Candidate, forms, fit(list(forms))))
    return Generation(0, population, dict(population))


def evolve(generation: Generation, library: Library, size: int, seed: int, fit: Fit) -> Generation:
    """One generation: parents by tournament, children by crossover and mutation, survivors of both by NSGA-II.

    No form is fitted twice. What is drawn depends on the seed and the number of the generation alone, so that a search
    that is resumed goes on as if it had not been stopped.

    Args:
        generation: the one before.
        library: the terms.
        size: forms that survive.
        seed: decides parents and children.
        fit: finds the meta-losses of new forms.

    Returns:
        The next generation.

    References:
        Deb, Pratap, Agarwal, Meyarivan 2002 (NSGA-II); S. Bengio, Y. Bengio, J. Cloutier 1994, "Use of Genetic
        Programming for the Search of a New Learning Rule for Neural Networks".
    """
    random = _random(seed, generation.number + 1)
    parents = list(generation.population)
    ranks = {parents[index]: rank for rank, layer in enumerate(layers(_points(parents))) for index in layer}

    def parent() -> Form:
        return min(random.sample(parents, min(2, len(parents))), key=ranks.__getitem__).form

    children: dict[Form, None] = {}
    for _ in range(_TRIES * size):
        child = mutated(crossed(parent(), parent(), random), library, random)
        if len(children) < size and child not in generation.met:
            children[child] = None
    born = tuple(map(Candidate, children, fit(list(children)))) if children else ()
    together = [*parents, *born]
    survivors = tuple(together[index] for index in selected(_points(together), size))
    return Generation(generation.number + 1, survivors, {**generation.met, **dict(born)})


def front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Those that none beats both in meta-loss and in number of terms, the shortest first; a loss of ∞ is none."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (len(one.form), one.loss, sorted(one.form))):
        if candidate.loss < (best[-1].loss if best else math.inf):
            best.append(candidate)
    return best


def _random(seed: int, generation: int) -> Random:
    return Random(f"{seed}/{generation}")


def _points(candidates: Sequence[Candidate]) -> list[tuple[float, float]]:
    """What is minimised: the meta-loss, where distances between infinite ones would not be numbers, and the terms."""
    return [(min(candidate.loss, _WORST), float(len(candidate.form))) for candidate in candidates]
