"""Who a learned rule is compared with, tuned with the same number of lifetimes that it was given."""

from metarule.baselines.classic import (
    BaselineName,
    backprop,
    baselines,
    delta,
    descent,
    feedback_alignment,
    rescorla_wagner,
    sutton_barto,
    under,
)
from metarule.baselines.descent import Descent
from metarule.baselines.tuning import RATES, Tuned, at_rate, tune

__all__ = [
    "RATES",
    "BaselineName",
    "Descent",
    "Tuned",
    "at_rate",
    "backprop",
    "baselines",
    "delta",
    "descent",
    "feedback_alignment",
    "rescorla_wagner",
    "sutton_barto",
    "tune",
    "under",
]
