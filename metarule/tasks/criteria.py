"""Criteria of phenomena, as text such as `"after CS1 <= 0.3 peak CS1"`.

    criterion = reading comparison number [ reading ]      reading = moment CS

Moments: `before` (at step 0), `peak` (largest response of the lifetime) and `after` (at its end) are of the animal;
`control` is the end of the lifetime of the control. Readings are responses, in units of the response to the US.
"""

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from metarule.types import STIMULI

__all__ = ["MOMENTS", "Criterion", "Reading", "parse_criterion", "satisfies"]

MOMENTS = ("before", "peak", "after", "control")

_CS = STIMULI[:-1]
_COMPARISONS: dict[str, Callable] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_READING = r"(\w+)\s+(\w+)"
_CRITERION = re.compile(rf"\s*{_READING}\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?|\.\d+)(?:\s+{_READING})?\s*")


class Reading(NamedTuple):
    """The response to a CS at one moment."""

    moment: str
    stimulus: str


class Criterion(NamedTuple):
    """left (comparison) factor · right; a missing right is 1."""

    left: Reading
    comparison: str
    factor: float
    right: Reading | None


@lru_cache(maxsize=256)
def parse_criterion(text: str) -> Criterion:
    """Parse a criterion, such as `"after CS1 >= 1.5 control CS1"`.

    Raises:
        ValueError: the text is not a criterion.
    """
    match = _CRITERION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"criterion '{text}': allowed: a reading, a comparison, a number and optionally another reading, "
            "as in 'after CS1 <= 0.3 peak CS1'"
        )
    moment, stimulus, comparison, factor, *right = match.groups()
    readings = [Reading(moment, stimulus)] + ([Reading(*right)] if right[0] else [])
    for reading in readings:
        if reading.moment not in MOMENTS:
            raise ValueError(f"criterion '{text}': '{reading.moment}' is not a moment; allowed: {', '.join(MOMENTS)}")
        if reading.stimulus not in _CS:
            raise ValueError(f"criterion '{text}': '{reading.stimulus}' is not a CS; allowed: {', '.join(_CS)}")
    return Criterion(readings[0], comparison, float(factor), readings[1] if right[0] else None)


def satisfies(
    criterion: Criterion, responses: Mapping[Reading, Float[np.ndarray, " runs"]]
) -> Bool[np.ndarray, " runs"]:
    """Check a criterion on the responses of each run."""
    right = responses[criterion.right] if criterion.right else 1.0
    return _COMPARISONS[criterion.comparison](responses[criterion.left], criterion.factor * right)
