"""Checks of the contracts that metarule relies on, for own components and for those that ship."""

from metarule.testing.circuits import CIRCUIT_CHECKS, check_circuit
from metarule.testing.rules import RULE_CHECKS, check_rule
from metarule.testing.tasks import TASK_CHECKS, check_tasks

__all__ = ["CIRCUIT_CHECKS", "RULE_CHECKS", "TASK_CHECKS", "check_circuit", "check_rule", "check_tasks"]
