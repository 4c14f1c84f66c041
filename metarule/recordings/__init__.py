"""Recordings of experiments: their files, the task family that is made of them, and simulated ones."""

from metarule.recordings.animals import Animal
from metarule.recordings.family import Recordings
from metarule.recordings.files import read_recordings, unused_fields
from metarule.recordings.npz import save_recordings
from metarule.recordings.settings import Simulation
from metarule.recordings.simulation import SimulationExperiment, simulate

__all__ = ["Animal", "Recordings", "Simulation", "SimulationExperiment", "read_recordings", "save_recordings"]
__all__ += ["simulate", "unused_fields"]
