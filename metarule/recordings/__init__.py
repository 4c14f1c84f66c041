"""Recordings of experiments: their files, the task family that is made of them, and simulated ones."""

from metarule.recordings.animals import Animal
from metarule.recordings.files import read_recordings, unused_fields

__all__ = ["Animal", "read_recordings", "unused_fields"]
