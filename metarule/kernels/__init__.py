"""Small networks as machine code: a time loop compiled to one operation, in which each vector lane is a lifetime."""

from metarule.kernels.choice import MODES, compile_draws, compiled_scan, kernels, why_not
from metarule.kernels.scan import in_segments

__all__ = ["MODES", "compile_draws", "compiled_scan", "in_segments", "kernels", "why_not"]
