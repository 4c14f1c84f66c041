"""Reverse-mode differentiation through the whole life."""

from functools import partial
from typing import Annotated, Any

import jax
from msgspec import Meta, Struct

from metarule.estimators.lives import whole
from metarule.scans import Plain, Remat, Segmented
from metarule.types import Estimate, Learner, PRNGKey, Theta

__all__ = ["Reverse"]


class Reverse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reverse"):
    """Exact θ-gradient: back-propagation through every synaptic change of the life.

    ∂loss/∂θ = Σ_t ∂loss/∂w_t · ∂Δw_t/∂θ, with ∂loss/∂w_t carried back through the unrolled lifetime

    Time of a few forward passes whatever the size of θ; memory as the scan says. Pick it for exact gradients of rules
    with many coefficients over lives that fit into memory.

    Attributes:
        scan: how the time loop is differentiated.
    """

    scan: Annotated[Plain | Remat | Segmented, Meta(description="how the time loop is differentiated")] = Remat()

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs."""
        return 1

    @property
    def whole(self) -> bool:
        """An estimate is of a whole life."""
        return True

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> tuple[()]:
        """Nothing persists from one meta-step to the next."""
        return ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Meta-loss and θ-gradient of one life.

        Args:
            learner: who lives.
            theta: θ.
            task: what it lives through.
            state: `()`.
            key: decides the fresh weights.

        Returns:
            (estimate, state).
        """
        meta_loss = partial(whole, learner, task=task, key=key, scan=self.scan)
        (loss, metrics), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics), state
