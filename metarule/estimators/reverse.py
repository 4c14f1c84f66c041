"""Reverse-mode differentiation through the whole life."""

from typing import Annotated, Any

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.chunking import chunk_length, chunked_gradient, touched
from metarule.estimators.rebuilding import rebuilt_gradient, segment_length
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Plain, Rebuilt, Remat, Segmented
from metarule.lifetime.unroll import stretch
from metarule.types import Carry, Estimate, Learner, Life, PRNGKey, Theta

__all__ = ["Reverse"]


class Reverse(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reverse"):
    """Exact θ-gradient: back-propagation through every synaptic change of the life.

    ∂loss/∂θ = Σ_t ∂loss/∂w_t · ∂Δw_t/∂θ, with ∂loss/∂w_t carried back through the unrolled lifetime

    Time of a few forward passes whatever the size of θ; memory as the scan says. Pick it for exact gradients of rules
    with many coefficients over lives that fit into memory. One corner is not exact: the `rebuilt` scan takes weights
    that their bound clipped by less than rounding for weights that moved freely, which put the gradient off by 5 % in
    a contrived case; the other scans are exact there, too.

    Attributes:
        scan: how the time loop is differentiated.
    """

    scan: Annotated[Plain | Remat | Segmented | Rebuilt, Meta(description="how the time loop is differentiated")] = (
        Rebuilt()
    )

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs."""
        return 1

    @property
    def whole(self) -> bool:
        """An estimate is of a whole life."""
        return True

    def touched(self, learner: Learner, carry: Carry) -> Any:
        """Shapes of what is gone over at each presentation: less than the state, where chunks of them are one."""
        length = chunk_length(learner, carry) if isinstance(self.scan, Rebuilt) else 0
        return touched(carry, length) if length else carry

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
        life, carry = learner.birth(key, task)
        return self.from_birth(learner, theta, life, carry), state

    def from_birth(self, learner: Learner, theta: Theta, life: Life, carry: Carry) -> Estimate:
        """Meta-loss and θ-gradient of a life that is about to begin.

        Args:
            learner: who lives.
            theta: θ.
            life: constant part of the life.
            carry: state before its first presentation.

        Returns:
            The estimate.
        """
        if isinstance(self.scan, Rebuilt) and isinstance(learner, Lifetime):
            if length := chunk_length(learner, carry):
                return chunked_gradient(learner, length, theta, life, carry)
            if length := segment_length(learner, carry):
                return rebuilt_gradient(learner, length, theta, life, carry)

        def meta_loss(theta: Theta) -> tuple[Any, Any]:
            loss, (_, metrics) = stretch(learner, theta, life, carry, 0, learner.presentations, self.scan)
            return loss, metrics

        (loss, metrics), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics)
