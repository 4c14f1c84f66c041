"""Tasks: distributions over learning problems."""

from metarule.tasks.boolean import Boolean, BooleanTask
from metarule.tasks.conditioning import Conditioning, ConditioningPool, ConditioningTask
from metarule.tasks.phenomena import STANDARD, Phenomenon
from metarule.tasks.schedules import Phase, Schedule
from metarule.tasks.tabular import Tabular, TabularTask

__all__ = [
    "STANDARD",
    "Boolean",
    "BooleanTask",
    "Conditioning",
    "ConditioningPool",
    "ConditioningTask",
    "Phase",
    "Phenomenon",
    "Schedule",
    "Tabular",
    "TabularTask",
]
