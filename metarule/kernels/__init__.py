"""Small networks as machine code: a time loop compiled to one operation, in which each vector lane is a lifetime."""

from metarule.kernels.choice import MODES, compiled_scan, kernels, why_not

__all__ = ["MODES", "compiled_scan", "kernels", "why_not"]
