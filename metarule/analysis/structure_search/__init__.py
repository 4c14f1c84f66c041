"""Genetic search over the set of terms of a polynomial rule."""

from metarule.analysis.structure_search.masked import Fitted, MaskedLearner, fit
from metarule.analysis.structure_search.search import (
    Candidate,
    Generation,
    first_generation,
    next_generation,
    pareto_front,
)
from metarule.analysis.structure_search.variation import Structure, TermLibrary, term_library

__all__ = [
    "Candidate",
    "Fitted",
    "Generation",
    "MaskedLearner",
    "Structure",
    "TermLibrary",
    "first_generation",
    "fit",
    "next_generation",
    "pareto_front",
    "term_library",
]
