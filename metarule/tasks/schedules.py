"""Schedules of conditioning experiments: trials as text, phases as tables, phenomena with their control.

A trial says which stimuli come on together and what follows them:

    trial = stimuli { ">" stimuli }      stimuli = stimulus { "+" stimulus }

`"CS1 > US"` is CS1 with the US a delay later, `"CS1+CS2 > US"` a compound, `"CS2 > CS1"` a trial of second-order
conditioning, `"US"` the US alone, and `"rest"` a trial in which nothing happens.
"""

from collections.abc import Mapping
from typing import Annotated

from immutabledict import immutabledict
from msgspec import Meta
from msgspec.structs import force_setattr

from metarule.config.schema import Checked
from metarule.types import STIMULI

__all__ = ["REST", "Phase", "Schedule", "parse_trial"]

REST = "rest"


def parse_trial(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read a trial.

    Args:
        text: such as `"CS1+CS2 > US"`.

    Returns:
        (stimuli that come on first, stimuli that follow after the delay).

    Raises:
        ValueError: naming what cannot be read, and what is allowed.
    """
    if text.strip() == REST:
        return (), ()
    stages = [tuple(name.strip() for name in stage.split("+")) for stage in text.split(">")]
    for name in (name for stage in stages for name in stage):
        if name not in STIMULI:
            raise ValueError(
                f"trial '{text}' names no stimulus at '{name}'; allowed: {', '.join(STIMULI)}, joined by + and >, "
                f"or {REST}"
            )
    if twice := next((name for name in STIMULI if sum(stage.count(name) for stage in stages) > 1), None):
        raise ValueError(f"trial '{text}' names {twice} twice")
    if len(stages) > 2:
        raise ValueError(f"trial '{text}' has {len(stages)} parts; allowed: at most two, as in 'CS1 > US'")
    return stages[0], stages[1] if len(stages) == 2 else ()


def _spelt(text: str) -> str:
    """A trial in one spelling, however it was spaced."""
    return " > ".join("+".join(stage) for stage in parse_trial(text) if stage) or REST


class Phase(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A block of trials that is repeated.

    Attributes:
        trials: one block, in order.
        times: fewest and most repetitions; a lifetime draws a number in between.
        wanted: by trial, the response wanted at its first step when the phase begins and when it ends, in units of the
            response to the US; in between, wanted_r = last + (first − last)·exp(−3r/(n − 1)) at repetition r of n.
    """

    trials: Annotated[tuple[str, ...], Meta(min_length=1, max_length=8, description="one block of trials")]
    times: Annotated[tuple[int, int], Meta(description="fewest and most repetitions of the block")]
    wanted: Annotated[
        Mapping[str, tuple[float, float]], Meta(description="by trial, wanted response at the start and at the end")
    ] = immutabledict()

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "trials", tuple(map(_spelt, self.trials)))
        force_setattr(self, "wanted", immutabledict({_spelt(trial): pair for trial, pair in self.wanted.items()}))
        low, high = self.times
        if not 1 <= low < high <= 1000:
            raise ValueError(
                f"times = [{low}, {high}]; allowed: two different numbers from 1 to 1000, the smaller first"
            )
        for trial in self.wanted:
            if trial not in self.trials:
                raise ValueError(f"wanted '{trial}' is no trial of this phase; its trials: {', '.join(self.trials)}")


class Schedule(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one animal lives through, and what is wanted of it.

    Attributes:
        phases: one after the other; then it rests.
        after: by stimulus, the response wanted of it at the end of the lifetime, in units of the response to the US.
    """

    phases: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=8, description="one after the other")]
    after: Annotated[Mapping[str, float], Meta(description="by CS, wanted response at the end")] = immutabledict()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.after:
            if name not in STIMULI[:-1]:
                raise ValueError(f"after '{name}' is no conditioned stimulus; allowed: {', '.join(STIMULI[:-1])}")
