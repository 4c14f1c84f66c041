"""Genetic programming over the form of a polynomial rule: which of its terms there are."""

from metarule.analysis.structure_search.masked import Fitted, Masked, fit
from metarule.analysis.structure_search.search import Candidate, Generation, evolve, first_generation, front
from metarule.analysis.structure_search.variation import Form, Library, library

__all__ = [
    "Candidate",
    "Fitted",
    "Form",
    "Generation",
    "Library",
    "Masked",
    "evolve",
    "first_generation",
    "fit",
    "front",
    "library",
]
