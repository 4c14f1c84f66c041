"""Phenomena of classical conditioning: schedules of an animal and of its control, and criteria.

Schedules, target responses and criteria are metarule's own. The definitions follow Pavlov 1927 (acquisition,
extinction, overshadowing), Kamin 1969 (blocking), Rescorla 1980 (second-order conditioning), Lubow & Moore 1959 (latent
inhibition), and in Aplysia Pinsker et al. 1970 (habituation), Pinsker et al. 1973 (sensitisation) and Carew, Walters &
Kandel 1981 (conditioning). If a response should fall, the control rests for as long and its response should not fall,
because forgetting is neither habituation nor extinction.
"""

from typing import Annotated

from msgspec import Meta

from metarule.config.schema import Checked
from metarule.tasks.criteria import parse_criterion
from metarule.tasks.schedules import TrialPhase, TrialSchedule

__all__ = ["STANDARD", "Phenomenon"]


class Phenomenon(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phenomenon.

    Attributes:
        name: its name.
        trained: whether meta-training uses it; others are only reported.
        animal: schedule of the animal.
        control: schedule of its control, which has the same initial weights.
        criteria: criteria that have to be satisfied together.

    Raises:
        ValueError: a name that figures cannot draw, a text that is not a criterion, or a trained schedule without final
            targets.
    """

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    trained: bool = True
    animal: TrialSchedule
    control: TrialSchedule
    criteria: Annotated[tuple[str, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.isprintable() or "$" in self.name:  # Matplotlib reads text between $ as a formula
            raise ValueError(f"name = {self.name!r}; allowed: printable characters other than $")
        for text in self.criteria:
            parse_criterion(text)
        for side in ("animal", "control"):
            if self.trained and not getattr(self, side).final_targets:
                raise ValueError(
                    f"{side}.final_targets of '{self.name}' is empty; a trained phenomenon needs at least one"
                )


# Target responses, in units of the response to the US. A naive CS evokes about .055, because sensory neurons have a
# weak innate synapse on the motor neuron, as in Aplysia.
_NAIVE, _HABITUATED, _EXTINGUISHED, _SENSITISED, _LEARNED, _HALF = 0.055, 0.01, 0.03, 0.15, 0.8, 0.4

_PAIRED, _MANY, _FEW = (5, 9), (10, 14), (2, 4)


def _pairing(trial: str, first: float = _NAIVE) -> TrialPhase:
    return TrialPhase(trials=(trial,), repetitions=_PAIRED, targets={trial: (first, _LEARNED)})


def _rest(repetitions: tuple[int, int]) -> TrialPhase:
    return TrialPhase(trials=("rest",), repetitions=repetitions)


_FIRST = _pairing("CS1 > US")
_EXTINCTION = TrialPhase(trials=("CS1",), repetitions=_MANY, targets={"CS1": (_LEARNED, 0.0)})
_PREEXPOSURE = TrialPhase(trials=("CS1",), repetitions=_MANY, targets={"CS1": (_NAIVE, 0.0)})

STANDARD = (
    Phenomenon(
        name="habituation",
        animal=TrialSchedule(phases=(_PREEXPOSURE,), final_targets={"CS1": _HABITUATED}),
        control=TrialSchedule(phases=(_rest(_MANY),), final_targets={"CS1": _NAIVE}),
        criteria=("after CS1 <= 0.5 before CS1", "after CS1 <= 0.5 control CS1"),
    ),
    Phenomenon(
        name="sensitisation",
        animal=TrialSchedule(
            phases=(TrialPhase(trials=("US",), repetitions=_PAIRED),), final_targets={"CS1": _SENSITISED}
        ),
        control=TrialSchedule(phases=(_rest(_PAIRED),), final_targets={"CS1": _NAIVE}),
        criteria=("after CS1 >= 1.5 control CS1",),
    ),
    Phenomenon(
        name="acquisition",
        animal=TrialSchedule(phases=(_FIRST,), final_targets={"CS1": _LEARNED}),
        control=TrialSchedule(
            phases=(TrialPhase(trials=("CS1", "US"), repetitions=_PAIRED),), final_targets={"CS1": _NAIVE}
        ),
        criteria=("before CS1 < 0.1", "after CS1 >= 0.5", "control CS1 < 0.5"),
    ),
    Phenomenon(
        name="extinction",
        animal=TrialSchedule(phases=(_FIRST, _EXTINCTION), final_targets={"CS1": _EXTINGUISHED}),
        control=TrialSchedule(phases=(_FIRST, _rest(_MANY)), final_targets={"CS1": _LEARNED}),
        criteria=("control CS1 >= 0.5", "after CS1 <= 0.3 peak CS1", "after CS1 <= 0.3 control CS1"),
    ),
    Phenomenon(
        name="blocking",
        animal=TrialSchedule(
            phases=(_FIRST, _pairing("CS1+CS2 > US", first=_LEARNED)), final_targets={"CS2": _HABITUATED}
        ),
        control=TrialSchedule(phases=(_rest(_PAIRED), _pairing("CS1+CS2 > US")), final_targets={"CS2": _HALF}),
        criteria=("after CS2 <= 0.3 control CS2",),
    ),
    Phenomenon(
        name="second-order conditioning",
        animal=TrialSchedule(
            phases=(
                _FIRST,
                TrialPhase(trials=("CS2 > CS1",), repetitions=_FEW, targets={"CS2 > CS1": (_NAIVE, _HALF)}),
            ),
            final_targets={"CS2": _HALF},
        ),
        control=TrialSchedule(
            phases=(_FIRST, TrialPhase(trials=("CS2", "CS1"), repetitions=_FEW)), final_targets={"CS2": _HABITUATED}
        ),
        criteria=("after CS2 >= 0.3 after CS1", "after CS2 >= 0.2", "control CS2 < 0.1"),
    ),
    # Its animal has the schedule of the control of blocking, which has a target for CS2.
    Phenomenon(
        name="overshadowing",
        trained=False,
        animal=TrialSchedule(phases=(_pairing("CS1+CS2 > US"),)),
        control=TrialSchedule(phases=(_FIRST,)),
        criteria=("after CS1 <= 0.7 control CS1",),
    ),
    Phenomenon(
        name="latent inhibition",
        trained=False,
        animal=TrialSchedule(phases=(_PREEXPOSURE, TrialPhase(trials=("CS1 > US",), repetitions=_FEW))),
        control=TrialSchedule(phases=(_rest(_MANY), TrialPhase(trials=("CS1 > US",), repetitions=_FEW))),
        criteria=("after CS1 <= 0.8 control CS1",),
    ),
    Phenomenon(
        name="reacquisition",
        trained=False,
        animal=TrialSchedule(phases=(_FIRST, _EXTINCTION, TrialPhase(trials=("CS1 > US",), repetitions=_FEW))),
        control=TrialSchedule(
            phases=(_rest(_PAIRED), _rest(_MANY), TrialPhase(trials=("CS1 > US",), repetitions=_FEW))
        ),
        criteria=("after CS1 >= 1.25 control CS1",),
    ),
)
