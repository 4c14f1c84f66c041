"""Circuits: neurons, their synapses, and the local variables of each synapse."""

from metarule.circuits.conditioning import ConditioningCircuit, Connection
from metarule.circuits.feedforward import Feedforward
from metarule.circuits.recurrent import Recurrent

__all__ = ["ConditioningCircuit", "Connection", "Feedforward", "Recurrent"]
