"""Meta-optimisers: what moves θ."""

from typing import TypeAlias

from metarule.meta.gradient import Gradient, GradientState
from metarule.meta.loop import advance, begin, phase_at, train
from metarule.meta.population import Population, PopulationState
from metarule.meta.rollback import Rollback
from metarule.meta.searches import CMAES, Annealing, Genetic, OpenES, RandomSearch
from metarule.meta.sequence import Sequence, SequenceState
from metarule.meta.transforms import Schedule

__all__ = [
    "CMAES",
    "Annealing",
    "AnyOptimizer",
    "Genetic",
    "Gradient",
    "GradientState",
    "OpenES",
    "Population",
    "PopulationState",
    "RandomSearch",
    "Rollback",
    "Schedule",
    "Sequence",
    "SequenceState",
    "advance",
    "begin",
    "phase_at",
    "train",
]

# Those that a config can name.
AnyOptimizer: TypeAlias = Gradient | Genetic | Annealing | CMAES | OpenES | RandomSearch | Sequence
