"""Learn learning rules: local synaptic plasticity, differentiated through whole lifetimes of learning.

Components are hashable objects that hold hyper-parameters alone; θ, weights, tasks and states are pytrees of arrays.
"""

from metarule.baselines import Tuned, backprop, delta, tune
from metarule.circuits import Feedforward
from metarule.estimators import Reverse
from metarule.evaluation import Curves, curves, final_metrics
from metarule.lifetime import InnerLoop, Lifetime, live
from metarule.meta import Gradient, Schedule
from metarule.rules import Polynomial, lift
from metarule.scans import Plain, Remat
from metarule.tasks import Boolean, Tabular

__all__ = [
    "Boolean",
    "Curves",
    "Feedforward",
    "Gradient",
    "InnerLoop",
    "Lifetime",
    "Plain",
    "Polynomial",
    "Remat",
    "Reverse",
    "Schedule",
    "Tabular",
    "Tuned",
    "backprop",
    "curves",
    "delta",
    "final_metrics",
    "lift",
    "live",
    "tune",
]
