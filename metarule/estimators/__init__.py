"""Estimators: ways to the θ-gradient of the meta-loss."""

from metarule.estimators.reverse import Reverse

__all__ = ["Reverse"]
