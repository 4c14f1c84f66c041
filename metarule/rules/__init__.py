"""Rules: Δw = f(local variables; θ)."""

from metarule.rules.lifting import lift
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import FAMILIES, RULES
from metarule.rules.traces import Trace

__all__ = ["FAMILIES", "RULES", "Polynomial", "Trace", "lift"]
