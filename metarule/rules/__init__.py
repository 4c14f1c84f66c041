"""Rules: Δw = f(local variables; θ)."""

from metarule.rules.lifting import Lifted, lift
from metarule.rules.mlp import MLP
from metarule.rules.polynomial import Polynomial
from metarule.rules.presets import FAMILIES, RULES
from metarule.rules.terms import Trace

__all__ = ["FAMILIES", "MLP", "RULES", "Lifted", "Polynomial", "Trace", "lift"]
