"""Small networks as machine code: a time loop compiled to one operation, in which each vector lane is a lifetime."""

from metarule.kernels.choice import MODES, compiled_scan, draw_by_machine_code, kernels, why_not
from metarule.kernels.scan import in_segments

__all__ = ["MODES", "compiled_scan", "draw_by_machine_code", "in_segments", "kernels", "why_not"]
