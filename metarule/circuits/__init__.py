"""Circuits: who is wired to whom, and what each synapse sees."""

from metarule.circuits.feedforward import Feedforward

__all__ = ["Feedforward"]
