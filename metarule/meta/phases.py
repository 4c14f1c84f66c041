"""A run as a list of phases, and the number of its lifetimes."""

import math
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from msgspec.structs import replace

from metarule.estimators.base import check_estimator, lifetimes_per_estimate
from metarule.lifetime.inner_loop import LONGEST
from metarule.meta.gauss_newton import GaussNewton
from metarule.meta.gradient import Gradient, scaled_steps
from metarule.meta.population import Population
from metarule.meta.searches import CMAES, Annealing, AnySearch, Genetic, OpenES, RandomSearch
from metarule.meta.sequence import Sequence
from metarule.meta.transforms import Schedule, follows_length
from metarule.protocols import Learner, MetaOptimizer
from metarule.tasks.base import min_steps
from metarule.types import Integer

__all__ = [
    "AnyOptimizer",
    "OwnOptimizer",
    "Phase",
    "advice",
    "fixed_length",
    "is_comparable",
    "lifetimes_of",
    "list_phases",
    "parts_of",
    "patience_of",
    "phase_at",
    "resolved",
    "total_steps",
    "train_tasks_of",
]

# Optimisers that a config can name.
AnyOptimizer: TypeAlias = Gradient | GaussNewton | Genetic | Annealing | CMAES | OpenES | RandomSearch | Sequence


@runtime_checkable
class OwnOptimizer(MetaOptimizer, Protocol):
    """An optimiser of a user's own module that a config can name.

    It tells the number of its meta-steps and of the lifetimes of each, because baselines are tuned with as many.
    """

    steps: int
    batch_size: int


class Phase(NamedTuple):
    """A part of a run with one learner and one optimiser.

    Attributes:
        learner: the learner.
        optimizer: the optimiser.
        begin: first meta-step of the optimiser, which may have several phases.
        end: first meta-step after the phase.
    """

    learner: Learner
    optimizer: MetaOptimizer
    begin: int
    end: int


def list_phases(optimizer: Any, learner: Learner) -> tuple[Phase, ...]:
    """List the phases of a run, of which the last ends with the run.

    Args:
        optimizer: an optimiser that a config can name, or a `MetaOptimizer` with a number of `steps`.
        learner: the learner, with lifetimes of full length.

    Returns:
        The phases.

    Raises:
        ValueError: lifetimes that are too short for the tasks, or too long, an estimator of windows where initial
            weights are learned, or a search without its library.
    """
    match optimizer:
        case Sequence(first=first, then=then):
            later = list_phases(then, learner)
            shifted = [phase._replace(begin=phase.begin + first.steps, end=phase.end + first.steps) for phase in later]
            return (*list_phases(first, learner), *shifted)
        case Gradient():
            check_estimator(optimizer.estimator, learner)
            parts = zip(_curriculum(optimizer, learner), optimizer.ends, strict=True)
            return tuple(Phase(learner.with_steps(length), optimizer, 0, end) for length, end in parts)
        case GaussNewton():
            optimizer.check(learner)
            return (Phase(learner, optimizer, 0, optimizer.steps),)
        case _ if isinstance(optimizer, AnySearch) and find_spec("evosax") is None:
            kind = optimizer.__struct_config__.tag
            raise ValueError(
                f"optimizer.kind = '{kind}': evosax is missing; install it with: pip install 'metarule[search]'"
            )
        case _:
            return (Phase(learner, optimizer, 0, optimizer.steps),)


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """Phase of a meta-step; the last one after the end."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def total_steps(optimizer: Any) -> int:
    """Meta-steps of a run."""
    return sum(part.steps for part in parts_of(optimizer))


def lifetimes_of(optimizer: Any, steps: int | None = None) -> int:
    """Most lifetimes of the first meta-steps of a run, or of all; longer ones count by their length, in expectation.

    Validation is included.
    """
    left, total = total_steps(optimizer) if steps is None else steps, 0
    for part in parts_of(optimizer):
        count = min(left, part.steps)
        left -= count
        if isinstance(part, Gradient):
            length = sum(part.lengths) / len(part.lengths)
            total += math.ceil(count * part.batch_size * lifetimes_per_estimate(part.estimator) * length)
        elif isinstance(part, Population):
            total += part.validation + count * (part.population * part.batch_size + part.validation)
        else:
            total += count * part.batch_size
    return total


def train_tasks_of(optimizer: Any) -> Integer | Literal["all"]:
    """Number of training tasks; for a sequence that of its last part, and all for a user's own optimiser."""
    last = parts_of(optimizer)[-1]
    return last.train_tasks if isinstance(last, Gradient | Population) else "all"


def patience_of(optimizer: Any) -> int:
    """Patience of the last part of a run; 0 for none."""
    last = parts_of(optimizer)[-1]
    return last.patience if isinstance(last, Gradient | Population) else 0


def fixed_length(optimizer: Any) -> str:
    """Reason why meta-steps depend on the length of the run, so that it cannot be continued; empty if they do not."""
    match optimizer:
        case Gradient(curriculum=curriculum) if len(curriculum) > 1:
            return "the curriculum divides the run in parts"
        case Gradient(learning_rate=Schedule() as schedule) if follows_length(schedule):
            return f"the schedule {schedule.name} ends with the run"
        case Gradient() | CMAES() | OpenES() | RandomSearch():
            return ""
        case Genetic() | Annealing():
            return "the spread of candidates shrinks over the run"
        case Sequence():
            return "it has two parts"
        case _:
            return f"{type(optimizer).__name__} may depend on it"


def is_comparable(optimizer: Any) -> bool:
    """True if the meta-losses of all meta-steps are comparable."""
    if isinstance(optimizer, Sequence):
        return False
    return not isinstance(optimizer, Gradient) or (optimizer.curriculum == (1.0,) and optimizer.comparable)


def resolved(optimizer: Any, learner: Learner, runs: int = 1) -> tuple[Any, str]:
    """Choose what an optimiser leaves open, for runs that share the memory.

    Returns:
        (optimiser, reason in one line, empty where nothing was open).
    """
    match optimizer:
        case Sequence():
            then, reason = optimizer.then.resolved(learner, runs)
            return replace(optimizer, first=resolved(optimizer.first, learner, runs)[0], then=then), reason
        case Gradient():
            return optimizer.resolved(learner, runs)
        case Population():
            return replace(optimizer, chunk_size=max(optimizer.chunk_size // runs, 1)), ""
        case _:
            return optimizer, ""


def advice(optimizer: Any, learner: Learner) -> tuple[str, ...]:
    """Settings to try where too many lifetimes diverge."""
    match optimizer:
        case Sequence(first=first):
            return (f"--optimizer.first.spread below {first.spread:g}", "a smaller learning rate")
        case Gradient(curriculum=(1.0,)) if 0.1 * learner.steps >= min_steps(learner.tasks):
            return ("a smaller learning rate", "shorter lifetimes at first, --optimizer.curriculum '[0.1, 1.0]'")
        case Population():
            return (f"--optimizer.spread below {optimizer.spread:g}",)
        case _:
            return ("a smaller learning rate",)


def parts_of(optimizer: Any) -> tuple[Any, ...]:
    """Optimisers of a sequence, or the optimiser itself."""
    return (optimizer.first, optimizer.then) if isinstance(optimizer, Sequence) else (optimizer,)


def _curriculum(optimizer: Gradient, learner: Learner) -> list[int]:
    """Length of lifetimes in each part of the curriculum."""
    lengths = [scaled_steps(learner.steps, share) for share in optimizer.curriculum]
    shortest = scaled_steps(min(lengths), min(optimizer.lengths))
    longest = scaled_steps(max(lengths), max(optimizer.lengths))
    field = "curriculum" if optimizer.lengths == (1.0,) else "lengths"
    given, least = f"optimizer.{field} = {list(getattr(optimizer, field))}", min_steps(learner.tasks)
    if shortest < least:
        raise ValueError(f"{given}: its shortest lifetimes have {shortest} steps; these tasks need at least {least}")
    if longest > LONGEST:
        raise ValueError(f"{given}: its longest lifetimes have {longest} steps; allowed: up to {LONGEST}")
    return lengths
