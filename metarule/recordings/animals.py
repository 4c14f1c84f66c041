"""Recordings of single animals."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

__all__ = ["Animal"]


class Animal(NamedTuple):
    """Recording of one animal, with the steps at which it was present. NaN is "not observed".

    Attributes:
        name: name of the animal, such as that of its file.
        inputs: activity of the input neurons [steps, inputs], without NaN.
        activity: activity of the recorded neurons [steps, neurons].
        weights: weights before each step by number of the projection [steps, pre, post].
        choices: 0 or 1 [steps].
        rewards: reward after each choice [steps]; NaN where none was given.
        targets: wanted activity of the output neurons [steps, outputs], without NaN.
        plastic: 1 where synapses are plastic, 0 where they are not [steps].
        session: number of the session of each step [steps].
        initial_weights: weights before the first step by number of the projection [pre, post].
    """

    name: str
    inputs: np.ndarray
    activity: np.ndarray | None = None
    weights: Mapping[int, np.ndarray] = MappingProxyType({})
    choices: np.ndarray | None = None
    rewards: np.ndarray | None = None
    targets: np.ndarray | None = None
    plastic: np.ndarray | None = None
    session: np.ndarray | None = None
    initial_weights: Mapping[int, np.ndarray] = MappingProxyType({})
