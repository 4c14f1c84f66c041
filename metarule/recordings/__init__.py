"""Recordings of experiments: their files, the task family that is made of them, and simulated ones."""

from metarule.recordings.animals import Animal
from metarule.recordings.settings import Simulation
from metarule.recordings.simulation import SimulationExperiment, simulate

__all__ = ["Animal", "Simulation", "SimulationExperiment", "simulate"]
