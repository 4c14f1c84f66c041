"""Settings of an inference."""

from typing import Annotated, Literal

from msgspec import Meta

from metarule.config.schema import Checked
from metarule.rules.presets import RULES

__all__ = ["Inference"]


class Inference(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Report on a rule that is inferred from recordings.

    Attributes:
        terms: terms of the inferred rule: `selected` by the likelihood of fitted and of held-out animals, or `all`.
        bootstrap: draws of animals for bootstrap intervals; 0 for none.
        profile: whether intervals by profile likelihood are computed, too, with some ten fits for each coefficient.
        models: rules by name that are compared; empty for all whose local variables the recordings have.
        recover: repetitions of the test of recovery: recordings are simulated from the estimate, with the inputs,
            gaps and noise of the animals, and fitted anew; 0 for none.

    Raises:
        ValueError: a model that is no rule by name.
    """

    terms: Literal["selected", "all"] = "selected"
    bootstrap: Annotated[int, Meta(ge=0, le=100_000)] = 1000
    profile: bool = False
    models: tuple[str, ...] = ()
    recover: Annotated[int, Meta(ge=0, le=10_000)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.models:
            if name not in RULES:
                raise ValueError(f"models: '{name}' is no rule by name; allowed: {', '.join(RULES)}")
