"""Learn learning rules: local synaptic plasticity, differentiated through whole lifetimes of learning.

Components are hashable objects that hold hyper-parameters alone; θ, weights, tasks and states are pytrees of arrays.
"""

from metarule import surroundings  # noqa: F401 - before anything imports JAX
from metarule.baselines import Tuned, backprop, delta, feedback_alignment, tune
from metarule.circuits import ConditioningCircuit, Connection, Feedforward, Recurrent
from metarule.devices import everywhere
from metarule.estimators import Auto, Evolution, Forward, Persistent, Reverse, Truncated
from metarule.evaluation import Curves, curves, final_metrics
from metarule.growth import growth
from metarule.lifetime import InnerLoop, Lifetime, live
from metarule.meta import CMAES, Annealing, Genetic, Gradient, Guard, OpenES, RandomSearch, Schedule, Sequence
from metarule.phenomena import respond, shown
from metarule.rules import MLP, Lifted, Polynomial, Trace, lift
from metarule.scans import Plain, Rebuilt, Remat, Segmented
from metarule.tasks import Boolean, Conditioning, Points, Tabular

__all__ = [
    "CMAES",
    "MLP",
    "Annealing",
    "Auto",
    "Boolean",
    "Conditioning",
    "ConditioningCircuit",
    "Connection",
    "Curves",
    "Evolution",
    "Feedforward",
    "Forward",
    "Genetic",
    "Gradient",
    "Guard",
    "InnerLoop",
    "Lifetime",
    "Lifted",
    "OpenES",
    "Persistent",
    "Plain",
    "Points",
    "Polynomial",
    "RandomSearch",
    "Rebuilt",
    "Recurrent",
    "Remat",
    "Reverse",
    "Schedule",
    "Segmented",
    "Sequence",
    "Tabular",
    "Trace",
    "Truncated",
    "Tuned",
    "backprop",
    "curves",
    "delta",
    "everywhere",
    "feedback_alignment",
    "final_metrics",
    "growth",
    "lift",
    "live",
    "respond",
    "shown",
    "tune",
]
