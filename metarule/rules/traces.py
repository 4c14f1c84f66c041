"""What a synapse remembers: moving averages of what it saw."""

from typing import Annotated

from msgspec import Meta

from metarule.config.schema import Checked
from metarule.rules.terms import Term, parse

__all__ = ["Trace"]


class Trace(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A moving average that each synapse keeps of a term, such as an eligibility trace or a sliding threshold.

    e ← λ·e + (1 − λ)·of

    It starts at 0 and is updated before the weight changes, so that terms with it see the present, too.

    Attributes:
        of: what is averaged, a term in the variables of a synapse, such as `"pre*post"`.
        decay: λ, between 0 and 1; it forgets over about 1/(1 − λ) steps.
        learned: whether θ holds λ, as its logit, and `decay` is where it starts; otherwise λ stays.

    Raises:
        ValueError: a text that is no term, or a decay that is not between 0 and 1.

    References:
        Sutton, Barto 1981 (eligibility traces); Gerstner et al. 2018 (three-factor rules).
    """

    of: Annotated[str, Meta(description="term that is averaged, such as 'pre*post'")]
    decay: Annotated[float, Meta(description="share of the trace that is kept, between 0 and 1")] = 0.9
    learned: Annotated[bool, Meta(description="the decay is part of theta")] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.term
        if not 0 < self.decay < 1:
            raise ValueError(f"trace of '{self.of}' has decay {self.decay}; allowed: between 0 and 1, both left out")

    @property
    def term(self) -> Term:
        """What is averaged."""
        return parse(self.of)
