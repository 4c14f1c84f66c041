"""The phenomena of classical conditioning: what the animal lives through, what its control does, and what shows it.

Schedules, wanted responses and criteria are metarule's own; what each phenomenon is follows Pavlov 1927 (acquisition,
extinction, overshadowing), Kamin 1969 (blocking), Rescorla 1980 (second-order conditioning), Lubow & Moore 1959 (latent
inhibition), and in Aplysia Pinsker et al. 1970 (habituation), Pinsker et al. 1973 (sensitisation) and Carew, Walters &
Kandel 1981 (conditioning). Where a response should fall, that of a control that merely waits must not: forgetting is
neither habituation nor extinction.
"""

from typing import Annotated

from msgspec import Meta

from metarule.config.schema import Checked
from metarule.tasks.criteria import parse_criterion
from metarule.tasks.schedules import Phase, Schedule

__all__ = ["STANDARD", "Phenomenon"]


class Phenomenon(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phenomenon.

    Attributes:
        name: what it is called.
        trained: whether meta-training meets it; others are only reported.
        animal: what the animal lives through.
        control: what its control lives through, from the same initial weights.
        shown: what has to hold, all of it, for the phenomenon to count as shown.

    Raises:
        ValueError: a name that no figure can show, a criterion that cannot be read, or a trained schedule with nothing
            wanted after it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=40, description="what it is called")]
    trained: Annotated[bool, Meta(description="whether meta-training meets it; others are only reported")] = True
    animal: Annotated[Schedule, Meta(description="what the animal lives through")]
    control: Annotated[Schedule, Meta(description="what its control lives through")]
    shown: Annotated[tuple[str, ...], Meta(min_length=1, description="criteria, all of which have to hold")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.isprintable() or "$" in self.name:  # figures would read formulas between them
            raise ValueError(f"name = {self.name!r}; allowed: characters that can be printed, without $")
        for text in self.shown:
            parse_criterion(text)
        for side in ("animal", "control"):
            if self.trained and not getattr(self, side).after:
                raise ValueError(f"{side}.after of '{self.name}' is empty; what is trained needs a response to score")


# Wanted responses, in units of the response to the US. A naive CS evokes about .055: sensory neurons have a weak
# innate synapse on the motor neuron, as in Aplysia.
_NAIVE, _HABITUATED, _EXTINGUISHED, _SENSITISED, _LEARNED, _HALF = 0.055, 0.01, 0.03, 0.15, 0.8, 0.4

_PAIRED, _MANY, _FEW = (5, 9), (10, 14), (2, 4)


def _pairing(trial: str, first: float = _NAIVE) -> Phase:
    return Phase(trials=(trial,), times=_PAIRED, wanted={trial: (first, _LEARNED)})


def _rest(times: tuple[int, int]) -> Phase:
    return Phase(trials=("rest",), times=times)


_FIRST = _pairing("CS1 > US")
_EXTINCTION = Phase(trials=("CS1",), times=_MANY, wanted={"CS1": (_LEARNED, 0.0)})
_PREEXPOSURE = Phase(trials=("CS1",), times=_MANY, wanted={"CS1": (_NAIVE, 0.0)})

STANDARD = (
    Phenomenon(
        name="habituation",
        animal=Schedule(phases=(_PREEXPOSURE,), after={"CS1": _HABITUATED}),
        control=Schedule(phases=(_rest(_MANY),), after={"CS1": _NAIVE}),
        shown=("after CS1 <= 0.5 before CS1", "after CS1 <= 0.5 control CS1"),
    ),
    Phenomenon(
        name="sensitisation",
        animal=Schedule(phases=(Phase(trials=("US",), times=_PAIRED),), after={"CS1": _SENSITISED}),
        control=Schedule(phases=(_rest(_PAIRED),), after={"CS1": _NAIVE}),
        shown=("after CS1 >= 1.5 control CS1",),
    ),
    Phenomenon(
        name="acquisition",
        animal=Schedule(phases=(_FIRST,), after={"CS1": _LEARNED}),
        control=Schedule(phases=(Phase(trials=("CS1", "US"), times=_PAIRED),), after={"CS1": _NAIVE}),
        shown=("before CS1 < 0.1", "after CS1 >= 0.5", "control CS1 < 0.5"),
    ),
    Phenomenon(
        name="extinction",
        animal=Schedule(phases=(_FIRST, _EXTINCTION), after={"CS1": _EXTINGUISHED}),
        control=Schedule(phases=(_FIRST, _rest(_MANY)), after={"CS1": _LEARNED}),
        shown=("control CS1 >= 0.5", "after CS1 <= 0.3 peak CS1", "after CS1 <= 0.3 control CS1"),
    ),
    Phenomenon(
        name="blocking",
        animal=Schedule(phases=(_FIRST, _pairing("CS1+CS2 > US", first=_LEARNED)), after={"CS2": _HABITUATED}),
        control=Schedule(phases=(_rest(_PAIRED), _pairing("CS1+CS2 > US")), after={"CS2": _HALF}),
        shown=("after CS2 <= 0.3 control CS2",),
    ),
    Phenomenon(
        name="second-order conditioning",
        animal=Schedule(
            phases=(_FIRST, Phase(trials=("CS2 > CS1",), times=_FEW, wanted={"CS2 > CS1": (_NAIVE, _HALF)})),
            after={"CS2": _HALF},
        ),
        control=Schedule(phases=(_FIRST, Phase(trials=("CS2", "CS1"), times=_FEW)), after={"CS2": _HABITUATED}),
        shown=("after CS2 >= 0.3 after CS1", "after CS2 >= 0.2", "control CS2 < 0.1"),
    ),
    # Its animal lives through the schedule of the control of blocking, of whose CS2 a response is wanted.
    Phenomenon(
        name="overshadowing",
        trained=False,
        animal=Schedule(phases=(_pairing("CS1+CS2 > US"),)),
        control=Schedule(phases=(_FIRST,)),
        shown=("after CS1 <= 0.7 control CS1",),
    ),
    Phenomenon(
        name="latent inhibition",
        trained=False,
        animal=Schedule(phases=(_PREEXPOSURE, Phase(trials=("CS1 > US",), times=_FEW))),
        control=Schedule(phases=(_rest(_MANY), Phase(trials=("CS1 > US",), times=_FEW))),
        shown=("after CS1 <= 0.8 control CS1",),
    ),
    Phenomenon(
        name="reacquisition",
        trained=False,
        animal=Schedule(phases=(_FIRST, _EXTINCTION, Phase(trials=("CS1 > US",), times=_FEW))),
        control=Schedule(phases=(_rest(_PAIRED), _rest(_MANY), Phase(trials=("CS1 > US",), times=_FEW))),
        shown=("after CS1 >= 1.25 control CS1",),
    ),
)
