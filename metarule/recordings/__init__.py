"""Recordings of experiments: their files, the task family that is made of them, and simulated ones."""
