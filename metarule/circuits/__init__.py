"""Circuits: who is wired to whom, and what each synapse sees."""

from metarule.circuits.conditioning import ConditioningCircuit, Connection
from metarule.circuits.feedforward import Feedforward
from metarule.circuits.recurrent import Recurrent

__all__ = ["ConditioningCircuit", "Connection", "Feedforward", "Recurrent"]
