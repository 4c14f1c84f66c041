"""Tasks: distributions over learning problems."""

from typing import TypeAlias

from metarule.tasks.bandit import Bandit, BanditBelief, BanditState, BanditTask
from metarule.tasks.boolean import Boolean, BooleanTask
from metarule.tasks.conditioning import Conditioning, ConditioningPool, ConditioningTask
from metarule.tasks.memory import Memory, MemoryPool, MemoryState, MemoryTask
from metarule.tasks.mixture import Mixture, MixtureTask
from metarule.tasks.navigation import Navigation, NavigationState, NavigationTask
from metarule.tasks.phenomena import STANDARD, Phenomenon
from metarule.tasks.points import Points, PointsTask
from metarule.tasks.schedules import TrialPhase, TrialSchedule
from metarule.tasks.sequence import SequenceState, SequenceTask, SymbolSequence
from metarule.tasks.tabular import Tabular, TabularTask

AnyTasks: TypeAlias = (
    Boolean | Points | Tabular | Conditioning | Bandit | Navigation | Memory | SymbolSequence | Mixture
)

__all__ = ["STANDARD", "AnyTasks", "Bandit", "BanditBelief", "BanditState", "BanditTask", "Boolean", "BooleanTask"]
__all__ += ["Conditioning", "ConditioningPool", "ConditioningTask"]
__all__ += ["Navigation", "NavigationState", "NavigationTask"]
__all__ += ["Memory", "MemoryPool", "MemoryState", "MemoryTask", "Mixture", "MixtureTask"]
__all__ += ["Phenomenon", "Points", "PointsTask", "Tabular", "TabularTask", "TrialPhase", "TrialSchedule"]
__all__ += ["SequenceState", "SequenceTask", "SymbolSequence"]
