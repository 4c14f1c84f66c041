"""Arrays of all animals of a family of recordings, as numpy constants that are computed once."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from metarule.recordings.tasks import Readout, RecordedTask, Unknowns, stack

__all__ = ["arrays_of", "deviations_of"]


@lru_cache(maxsize=4)
def arrays_of(family: Any) -> RecordedTask:
    """Arrays of all animals of a family of `Recordings`, of numpy, in double precision.

    Initial weights are among them where the family takes them as known, and first values of a fitted readout.
    """
    task = stack(family.animals, family.outputs)
    initial = () if family.initial in ("zero", "fitted") else task.unknowns.initial
    readout = None
    if family.readout == "fitted":
        offsets: Any = np.zeros(len(family.animals))
        gains: Any = np.ones((len(family.animals), family.outputs))
        readout = Readout(offsets, gains)
    return task._replace(unknowns=Unknowns(initial, readout, None))


@lru_cache(maxsize=16)
def deviations_of(family: Any) -> Mapping[str, float]:
    """Standard deviation of the observations of each Gaussian kind, over all animals; 1 if they are constant."""
    task = arrays_of(family)
    values = {"activity": [task.activity], "weights": task.weights}
    present = {kind: [one[~np.isnan(one)] for one in arrays if one is not None] for kind, arrays in values.items()}
    deviations = {kind: float(np.concatenate(arrays).std()) for kind, arrays in present.items() if arrays}
    return MappingProxyType({kind: deviation or 1.0 for kind, deviation in deviations.items()})
