"""Inference of rules from recordings: which terms, how sure, and whether recordings determine them."""

from metarule.inference.problem import Problem, make_problem
from metarule.inference.report import Inferred, infer_rule
from metarule.inference.settings import Inference

__all__ = ["Inference", "Inferred", "Problem", "infer_rule", "make_problem"]
