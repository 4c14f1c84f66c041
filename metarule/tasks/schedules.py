"""Schedules of conditioning experiments: trials as text, phases as tables.

A trial has stimuli that start together, and optionally stimuli that follow them:

    trial = stimuli { ">" stimuli }      stimuli = stimulus { "+" stimulus }

`"CS1 > US"` is CS1, followed by the US after the delay; `"CS1+CS2 > US"` is a compound; `"CS2 > CS1"` is a trial of
second-order conditioning; `"US"` is the US alone; `"rest"` has no stimuli.
"""

from collections.abc import Mapping
from typing import Annotated

from immutabledict import immutabledict
from msgspec import Meta
from msgspec.structs import force_setattr

from metarule.config.schema import Checked
from metarule.types import STIMULI

__all__ = ["TrialPhase", "TrialSchedule", "parse_trial"]

_REST = "rest"
_CS = STIMULI[:-1]


def parse_trial(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parse a trial to (stimuli at the start, stimuli after the delay).

    Raises:
        ValueError: the text is not a trial.
    """
    if text.strip() == _REST:
        return (), ()
    stages = [tuple(name.strip() for name in stage.split("+")) for stage in text.split(">")]
    for name in (name for stage in stages for name in stage):
        if name not in STIMULI:
            allowed = f"{', '.join(STIMULI)}, joined by + and >, or {_REST}"
            raise ValueError(f"trial '{text}': '{name}' is not a stimulus; allowed: {allowed}")
    if repeated := next((name for name in STIMULI if sum(stage.count(name) for stage in stages) > 1), None):
        raise ValueError(f"trial '{text}': {repeated} is given twice")
    if len(stages) > 2:
        raise ValueError(f"trial '{text}': {len(stages)} parts; allowed: at most 2, as in 'CS1 > US'")
    return stages[0], stages[1] if len(stages) == 2 else ()


def _normalised(text: str) -> str:
    """A trial with standard spacing."""
    return " > ".join("+".join(stage) for stage in parse_trial(text) if stage) or _REST


class TrialPhase(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Repeated block of trials.

    Attributes:
        trials: the trials of a block, in order.
        repetitions: fewest and most repetitions; each lifetime draws a number between them.
        targets: by trial, target response at its first step at the start and at the end of the phase, in units of the
            response to the US; in between, target_r = last + (first − last)·exp(−3r/(n − 1)) at repetition r of n.
    """

    trials: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8)]
    repetitions: tuple[int, int]
    targets: Mapping[str, tuple[float, float]] = immutabledict()

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "trials", tuple(map(_normalised, self.trials)))
        targets = {_normalised(trial): pair for trial, pair in self.targets.items()}
        force_setattr(self, "targets", immutabledict(targets))
        low, high = self.repetitions
        if not 1 <= low < high <= 1000:
            raise ValueError(
                f"repetitions = [{low}, {high}]; allowed: two different numbers from 1 to 1000, the smaller first"
            )
        for trial in self.targets:
            if trial not in self.trials:
                raise ValueError(f"targets: '{trial}' is not a trial of this phase; allowed: {', '.join(self.trials)}")


class TrialSchedule(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Phases of one lifetime, with target responses at its end.

    Attributes:
        phases: the phases, in order; rest follows.
        final_targets: by CS, target response at the end of the lifetime, in units of the response to the US.
    """

    phases: Annotated[tuple[TrialPhase, ...], Meta(min_length=1, max_length=8)]
    final_targets: Mapping[str, float] = immutabledict()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.final_targets:
            if name not in _CS:
                allowed = ", ".join(_CS)
                raise ValueError(f"final_targets: '{name}' is not a conditioned stimulus; allowed: {allowed}")
