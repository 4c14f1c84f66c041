"""Traces: moving averages at each synapse."""

from typing import Annotated

from msgspec import Meta

from metarule.config.schema import Checked
from metarule.rules.terms import Term, parse

__all__ = ["Trace"]


class Trace(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Moving average of a term at each synapse, such as an eligibility trace or a sliding threshold.

    e ← λ·e + (1 − λ)·of

    It starts at 0 and is updated before the weight changes, so that terms with it include the present step.

    Attributes:
        of: the averaged term, in the variables of a synapse, such as `"pre*post"`.
        decay: λ, between 0 and 1; the time constant is about 1/(1 − λ) steps.
        learned: whether λ is a parameter in θ (as its logit) with the initial value `decay`; otherwise it is fixed.

    Raises:
        ValueError: a text that is not a term, or a decay that is not between 0 and 1.

    References:
        Sutton, Barto 1981 (eligibility traces); Gerstner et al. 2018 (three-factor rules).
    """

    of: Annotated[str, Meta(description="averaged term, such as 'pre*post'")]
    decay: Annotated[float, Meta(description="share of the trace left after a step, between 0 and 1")] = 0.9
    learned: Annotated[bool, Meta(description="whether the decay is part of theta")] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.term
        if not 0 < self.decay < 1:
            raise ValueError(f"decay = {self.decay} of the trace of '{self.of}'; allowed: above 0 and below 1")

    @property
    def term(self) -> Term:
        """The averaged term, parsed."""
        return parse(self.of)
