"""Tasks: distributions over learning problems."""

from metarule.tasks.boolean import Boolean, BooleanTask
from metarule.tasks.tabular import Tabular, TabularTask

__all__ = ["Boolean", "BooleanTask", "Tabular", "TabularTask"]
