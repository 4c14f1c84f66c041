"""Meta-optimisers: what moves θ."""

from metarule.meta.gradient import Gradient, GradientState
from metarule.meta.guard import Guard
from metarule.meta.loop import advance, begin, stage_at, train
from metarule.meta.transforms import Schedule

__all__ = ["Gradient", "GradientState", "Guard", "Schedule", "advance", "begin", "stage_at", "train"]
