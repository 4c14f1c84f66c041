"""Estimators: ways to the θ-gradient of the meta-loss."""

from typing import TypeAlias

from metarule.estimators.auto import Auto
from metarule.estimators.evolution import Evolution
from metarule.estimators.forward import Forward
from metarule.estimators.persistent import Persistent
from metarule.estimators.reverse import Reverse
from metarule.estimators.truncated import Truncated

__all__ = ["AnyEstimator", "Auto", "Evolution", "Forward", "Persistent", "Reverse", "Truncated"]

# Those that a config can name.
AnyEstimator: TypeAlias = Reverse | Forward | Truncated | Evolution | Persistent | Auto
