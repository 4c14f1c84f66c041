"""A search followed by gradient descent."""

from metarule.config.schema import Checked
from metarule.meta.gradient import Gradient
from metarule.meta.searches import CMAES, AnySearch

__all__ = ["Sequence"]


class Sequence(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sequence"):
    """A search without gradients, then gradient descent from the best θ that it finds.

    A search covers a wide range, also where gradients are useless; gradient descent is precise.

    Attributes:
        first: the search.
        then: gradient descent from the best θ of the search.

    Raises:
        ValueError: patience of the search.
    """

    first: AnySearch = CMAES(steps=50)
    then: Gradient = Gradient()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first.patience:
            raise ValueError(f"first.patience = {self.first.patience}: the search takes all its steps; allowed: 0")
