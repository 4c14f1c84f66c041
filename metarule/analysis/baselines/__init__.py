"""Baselines of a learned rule, tuned with as many lifetimes as meta-training used."""

from metarule.analysis.baselines.classic import (
    BaselineName,
    backprop,
    baselines,
    delta_rule,
    descent,
    feedback_alignment,
    rescorla_wagner,
    sutton_barto,
    with_rule,
)
from metarule.analysis.baselines.descent import Descent
from metarule.analysis.baselines.tuning import RATES, Tuned, theta_at_rate, tune

__all__ = [
    "RATES",
    "BaselineName",
    "Descent",
    "Tuned",
    "backprop",
    "baselines",
    "delta_rule",
    "descent",
    "feedback_alignment",
    "rescorla_wagner",
    "sutton_barto",
    "theta_at_rate",
    "tune",
    "with_rule",
]
