"""Meta-optimisers: what moves θ."""

from metarule.meta.gradient import Gradient, GradientState
from metarule.meta.loop import advance, begin, train
from metarule.meta.transforms import Schedule

__all__ = ["Gradient", "GradientState", "Schedule", "advance", "begin", "train"]
