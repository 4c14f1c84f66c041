"""Circuits: neurons, their synapses, and the local variables of each synapse."""

from typing import TypeAlias

from metarule.circuits.conditioning import ConditioningCircuit, Connection
from metarule.circuits.excitatory_inhibitory import ExcitatoryInhibitory
from metarule.circuits.feedforward import Feedforward
from metarule.circuits.recurrent import Recurrent

AnyCircuit: TypeAlias = Feedforward | Recurrent | ConditioningCircuit | ExcitatoryInhibitory

__all__ = ["AnyCircuit", "ConditioningCircuit", "Connection", "ExcitatoryInhibitory", "Feedforward", "Recurrent"]
