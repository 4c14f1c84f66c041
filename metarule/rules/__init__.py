"""Rules: Δw = f(local variables; θ)."""

from metarule.rules.lifting import lift
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import FAMILIES, RULES

__all__ = ["FAMILIES", "RULES", "Polynomial", "lift"]
