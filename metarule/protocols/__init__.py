"""Protocols of components: rules, circuits, task families, learners, estimators and meta-optimisers.

A component is any frozen dataclass or Struct that satisfies its protocol. θ, weights, tasks and states are pytrees of
arrays and are passed as arguments. Methods are pure functions that JAX can trace. Optional abilities are protocols of
their own, with defaults. See `metarule.types` for arguments and results, and `metarule.testing` for checks.
"""

from metarule.protocols.circuits import Activated, Chunkable, Circuit, PartlyPlastic, Paths, Sized
from metarule.protocols.learners import (
    ChunkableLearner,
    Estimator,
    InvertibleLearner,
    Learner,
    MetaOptimizer,
    WorkingSet,
)
from metarule.protocols.rules import (
    AffineInWeight,
    Described,
    Factored,
    HasEquation,
    HasMemory,
    MatrixForm,
    Rule,
    Scaled,
)
from metarule.protocols.tasks import (
    HasTaskIds,
    InitialWeights,
    InRounds,
    Loss,
    MinimumLength,
    PrimaryMetric,
    Recorded,
    TaskFamily,
)

__all__ = ["AffineInWeight", "Described", "Factored", "HasEquation", "HasMemory", "MatrixForm", "Rule", "Scaled"]
__all__ += ["Activated", "Chunkable", "Circuit", "PartlyPlastic", "Paths", "Sized"]
__all__ += ["HasTaskIds", "InRounds", "InitialWeights", "Loss", "MinimumLength", "PrimaryMetric", "Recorded"]
__all__ += ["TaskFamily"]
__all__ += ["ChunkableLearner", "Estimator", "InvertibleLearner", "Learner", "MetaOptimizer", "WorkingSet"]
