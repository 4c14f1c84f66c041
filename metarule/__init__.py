"""Meta-learning of local synaptic plasticity rules by gradients through lifetimes of learning.

Components are hashable objects that hold hyper-parameters; θ, weights, tasks and states are pytrees of arrays.
"""

from importlib.metadata import version

from metarule import startup  # noqa: F401 - before anything imports JAX
from metarule.analysis.baselines import backprop, delta_rule, feedback_alignment
from metarule.analysis.evaluation import Curves, evaluate, final_metrics, learning_curves
from metarule.analysis.lyapunov import lyapunov_exponent
from metarule.analysis.phenomena import conditioned_responses, phenomena_shown
from metarule.analysis.tuning import Tuned, tune
from metarule.circuits import ConditioningCircuit, Connection, ExcitatoryInhibitory, Feedforward, Recurrent
from metarule.estimators import Auto, Evolution, Forward, Persistent, Reverse, Truncated
from metarule.inference.settings import Inference
from metarule.lifetime.inner_loop import InnerLoop
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Invertible, Plain, Remat, Segmented
from metarule.lifetime.unroll import meta_loss, unroll
from metarule.meta import (
    CMAES,
    Annealing,
    GaussNewton,
    Genetic,
    Gradient,
    OpenES,
    RandomSearch,
    Rollback,
    Schedule,
    Sequence,
)
from metarule.parallel.devices import sharded_jit
from metarule.recordings.family import Recordings
from metarule.recordings.settings import Simulation
from metarule.recordings.simulation import SimulationExperiment, simulate
from metarule.reports.page import report
from metarule.rules import MLP, Lifted, Polynomial, Trace, lift
from metarule.runs.execution import run
from metarule.runs.experiment import Evaluation, Experiment
from metarule.runs.explaining import explain
from metarule.runs.finished import load
from metarule.runs.inferring import infer
from metarule.tasks import Bandit, Boolean, Conditioning, Memory, Mixture, Navigation, Points, SymbolSequence, Tabular

__version__ = version("metarule")

__all__ = [
    "CMAES",
    "MLP",
    "Annealing",
    "Auto",
    "Bandit",
    "Boolean",
    "Conditioning",
    "ConditioningCircuit",
    "Connection",
    "Curves",
    "Evaluation",
    "Evolution",
    "ExcitatoryInhibitory",
    "Experiment",
    "Feedforward",
    "Forward",
    "GaussNewton",
    "Genetic",
    "Gradient",
    "Inference",
    "InnerLoop",
    "Invertible",
    "Lifetime",
    "Lifted",
    "Memory",
    "Mixture",
    "Navigation",
    "OpenES",
    "Persistent",
    "Plain",
    "Points",
    "Polynomial",
    "RandomSearch",
    "Recordings",
    "Recurrent",
    "Remat",
    "Reverse",
    "Rollback",
    "Schedule",
    "Segmented",
    "Sequence",
    "Simulation",
    "SimulationExperiment",
    "SymbolSequence",
    "Tabular",
    "Trace",
    "Truncated",
    "Tuned",
    "__version__",
    "backprop",
    "conditioned_responses",
    "delta_rule",
    "evaluate",
    "explain",
    "feedback_alignment",
    "final_metrics",
    "infer",
    "learning_curves",
    "lift",
    "load",
    "lyapunov_exponent",
    "meta_loss",
    "phenomena_shown",
    "report",
    "run",
    "sharded_jit",
    "simulate",
    "tune",
    "unroll",
]
