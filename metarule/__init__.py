"""Learn learning rules: local synaptic plasticity, differentiated through whole lifetimes of learning.

Components are hashable objects that hold hyper-parameters alone; θ, weights, tasks and states are pytrees of arrays.
"""

from metarule import startup  # noqa: F401 - before anything imports JAX
from metarule.analysis.baselines import Tuned, backprop, delta, feedback_alignment, tune
from metarule.analysis.evaluation import Curves, curves, final_metrics
from metarule.analysis.lyapunov import growth
from metarule.analysis.phenomena import respond, shown
from metarule.circuits import ConditioningCircuit, Connection, Feedforward, Recurrent
from metarule.estimators import Auto, Evolution, Forward, Persistent, Reverse, Truncated
from metarule.lifetime.learner import InnerLoop, Lifetime
from metarule.lifetime.scans import Plain, Rebuilt, Remat, Segmented
from metarule.lifetime.unroll import live
from metarule.meta import CMAES, Annealing, Genetic, Gradient, Guard, OpenES, RandomSearch, Schedule, Sequence
from metarule.parallel.devices import everywhere
from metarule.rules import MLP, Lifted, Polynomial, Trace, lift
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
