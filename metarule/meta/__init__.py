"""Meta-optimisers: methods that move θ."""

from metarule.meta.gauss_newton import GaussNewton
from metarule.meta.gradient import Gradient, GradientState
from metarule.meta.loop import advance, begin, train
from metarule.meta.phases import AnyOptimizer, Phase, list_phases
from metarule.meta.population import Population, PopulationState
from metarule.meta.rollback import Rollback
from metarule.meta.searches import CMAES, Annealing, Genetic, OpenES, RandomSearch
from metarule.meta.sequence import Sequence
from metarule.meta.transforms import Schedule

__all__ = [
    "CMAES",
    "Annealing",
    "AnyOptimizer",
    "GaussNewton",
    "Genetic",
    "Gradient",
    "GradientState",
    "OpenES",
    "Phase",
    "Population",
    "PopulationState",
    "RandomSearch",
    "Rollback",
    "Schedule",
    "Sequence",
    "advance",
    "begin",
    "list_phases",
    "train",
]
