"""Protocols of components: rules, circuits, task families, learners, estimators and meta-optimisers.

A component is any frozen dataclass or Struct that satisfies its protocol. θ, weights, tasks and states are pytrees of
arrays and are passed as arguments. Methods are pure functions that JAX can trace. Optional abilities are protocols of
their own, with defaults. See `metarule.types` for arguments and results, and `metarule.testing` for checks.
"""

from metarule.protocols.circuits import (
    Activated,
    Chunkable,
    Circuit,
    LearnedInitial,
    PartlyPlastic,
    Paths,
    SignConstrained,
    Sized,
    Stochastic,
)
from metarule.protocols.learners import (
    ChunkableLearner,
    Estimator,
    InitialInTheta,
    InvertibleLearner,
    Learner,
    MetaOptimizer,
    Sampling,
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
    ClosedLoop,
    HasIdealObserver,
    HasTaskIds,
    InEpisodes,
    InitialWeights,
    InRounds,
    Loss,
    MinimumLength,
    OpenLoop,
    PrimaryMetric,
    Recorded,
    TaskFamily,
)

__all__ = ["AffineInWeight", "Described", "Factored", "HasEquation", "HasMemory", "MatrixForm", "Rule", "Scaled"]
__all__ += ["Activated", "Chunkable", "Circuit", "LearnedInitial", "PartlyPlastic", "Paths", "SignConstrained"]
__all__ += ["Sized", "Stochastic"]
__all__ += ["ClosedLoop", "HasIdealObserver", "HasTaskIds", "InEpisodes", "InRounds", "InitialWeights", "Loss"]
__all__ += ["MinimumLength", "OpenLoop", "PrimaryMetric", "Recorded", "TaskFamily"]
__all__ += ["ChunkableLearner", "Estimator", "InitialInTheta", "InvertibleLearner", "Learner", "MetaOptimizer"]
__all__ += ["Sampling", "WorkingSet"]
