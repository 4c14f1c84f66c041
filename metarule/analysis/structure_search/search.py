"""NSGA-II over sets of terms, with two objectives: meta-loss and number of terms.

References:
    Deb, Pratap, Agarwal, Meyarivan 2002 (NSGA-II); S. Bengio, Y. Bengio, J. Cloutier 1994, "Use of Genetic Programming
    for the Search of a New Learning Rule for Neural Networks".
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from metarule.analysis.structure_search.nsga2 import nondominated_layers, select
from metarule.analysis.structure_search.variation import Structure, TermLibrary, crossover, mutate, random_structure

__all__ = ["Candidate", "Generation", "first_generation", "next_generation", "pareto_front"]

# Most terms of the initial structures: the search starts with short rules.
_MAX_INITIAL_TERMS = 4
# Draws for each new structure, because a draw may repeat one that is known.
_DRAWS = 20
# Replaces infinite losses, whose distances would be NaN.
_LARGEST_LOSS = 1e30


class Candidate(NamedTuple):
    """A structure, and its meta-loss on training tasks with learned coefficients."""

    structure: Structure
    loss: float


class Generation(NamedTuple):
    """State of the search.

    Attributes:
        number: number of the generation, from 0.
        population: the structures that survived.
        evaluated: meta-loss of every structure that was fitted.
    """

    number: int
    population: tuple[Candidate, ...]
    evaluated: Mapping[Structure, float]


# Function from structures to their meta-losses, in the same order.
Fit = Callable[[Sequence[Structure]], Sequence[float]]


def first_generation(library: TermLibrary, size: int, seed: int, fit: Fit) -> Generation:
    """Draw structures of a few terms; arguments as of `next_generation`."""
    random = _random(seed, 0)
    structures = _new_structures(size, lambda: random_structure(library, random, _MAX_INITIAL_TERMS), known={})
    population = tuple(map(Candidate, structures, fit(structures)))
    return Generation(0, population, dict(population))


def next_generation(generation: Generation, library: TermLibrary, size: int, seed: int, fit: Fit) -> Generation:
    """Select parents by tournament, make children by crossover and mutation, and select survivors by NSGA-II.

    No structure is fitted twice. Draws depend only on the seed and the number of the generation, so that a resumed
    search continues as if it had not been stopped.

    Args:
        generation: the previous one.
        library: the terms.
        size: structures that survive.
        seed: decides parents and children.
        fit: computes meta-losses of new structures.
    """
    random = _random(seed, generation.number + 1)
    parents = list(generation.population)
    layers = nondominated_layers(_objectives(parents))
    ranks = {parents[index]: rank for rank, layer in enumerate(layers) for index in layer}

    def parent() -> Structure:
        return min(random.sample(parents, min(2, len(parents))), key=ranks.__getitem__).structure

    def child() -> Structure:
        return mutate(crossover(parent(), parent(), random), library, random)

    children = _new_structures(size, child, generation.evaluated)
    offspring = tuple(map(Candidate, children, fit(children))) if children else ()
    candidates = [*parents, *offspring]
    survivors = tuple(candidates[index] for index in select(_objectives(candidates), size))
    return Generation(generation.number + 1, survivors, {**generation.evaluated, **dict(offspring)})


def pareto_front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates with a finite loss that no other beats in both objectives, the shortest first."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (len(one.structure), one.loss, sorted(one.structure))):
        if candidate.loss < (front[-1].loss if front else math.inf):
            front.append(candidate)
    return front


def _new_structures(size: int, draw: Callable[[], Structure], known: Mapping[Structure, float]) -> list[Structure]:
    """Draw up to `size` distinct structures that are not known."""
    structures: dict[Structure, None] = {}
    for _ in range(_DRAWS * size):
        structure = draw()
        if len(structures) < size and structure not in known:
            structures[structure] = None
    return list(structures)


def _random(seed: int, generation: int) -> Random:
    return Random(f"{seed}/{generation}")


def _objectives(candidates: Sequence[Candidate]) -> list[tuple[float, float]]:
    """Meta-loss and number of terms of each candidate."""
    return [(min(candidate.loss, _LARGEST_LOSS), float(len(candidate.structure))) for candidate in candidates]
