"""A search followed by gradient descent."""

from typing import Annotated

from msgspec import Meta

from metarule.config.schema import Checked
from metarule.meta.gradient import Gradient
from metarule.meta.searches import CMAES, AnySearch

__all__ = ["Sequence"]


class Sequence(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sequence"):
    """A search without gradients, then gradient descent from the best θ that it finds.

    A search covers a wide range, also where gradients are useless; gradient descent is precise.

    Attributes:
        first: the search.
        then: gradient descent.
    """

    first: Annotated[AnySearch, Meta(description="the search")] = CMAES(steps=50)
    then: Annotated[Gradient, Meta(description="gradient descent from the best theta of the search")] = Gradient()
