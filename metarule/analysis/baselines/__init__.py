"""Who a learned rule is compared with, tuned with the same number of lifetimes that it was given."""

from metarule.analysis.baselines.classic import (
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
from metarule.analysis.baselines.descent import Descent
from metarule.analysis.baselines.tuning import RATES, Tuned, at_rate, tune

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
