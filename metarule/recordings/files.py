"""temporary"""

import glob
from functools import lru_cache
from pathlib import Path

import numpy as np

from metarule.recordings.animals import Animal


def read_recordings(pattern, columns={}):
    return _read(pattern)


@lru_cache
def _read(pattern):
    out = []
    for f in sorted(glob.glob(pattern)):
        with np.load(f) as z:
            d = dict(z)
        w = {0: d["weights"]} if "weights" in d else {}
        i = {0: d["initial_weights"]} if "initial_weights" in d else {}
        out.append(
            Animal(
                Path(f).stem,
                d["inputs"],
                d.get("activity"),
                w,
                d.get("choices"),
                d.get("rewards"),
                d.get("targets"),
                d.get("plastic"),
                d.get("session"),
                i,
            )
        )
    return tuple(out), "x"
