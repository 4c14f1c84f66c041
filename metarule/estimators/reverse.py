"""Reverse-mode differentiation through the whole lifetime."""

from typing import Annotated, Any

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.chunking import chunk_length, chunked_gradient, touched
from metarule.estimators.rebuilding import invertible_gradient, segment_length
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.scans import Invertible, Plain, Remat, Segmented
from metarule.lifetime.unroll import segment_loss
from metarule.types import Estimate, Learner, LearnerState, LifetimeContext, PRNGKey, Theta

__all__ = ["Reverse"]


class Reverse(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reverse"):
    """Exact θ-gradient: back-propagation through every synaptic change of the lifetime.

    ∂loss/∂θ = Σ_t ∂loss/∂w_t · ∂Δw_t/∂θ, with ∂loss/∂w_t carried back through the unrolled lifetime

    Time of a few forward passes whatever the size of θ; memory as the scan says. Pick it for exact gradients of rules
    with many coefficients over lifetimes that fit into memory. One corner is not exact: the `rebuilt` scan takes weights
    that their bound clipped by less than rounding for weights that moved freely, which put the gradient off by 5 % in
    a contrived case; the other scans are exact there, too.

    Attributes:
        scan: how the time loop is differentiated.
    """

    scan: Annotated[Plain | Remat | Segmented | Invertible, Meta(description="how the time loop is differentiated")] = (
        Invertible()
    )

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs."""
        return 1

    @property
    def whole(self) -> bool:
        """An estimate is of a whole lifetime."""
        return True

    def touched(self, learner: Learner, learner_state: LearnerState) -> Any:
        """Shapes of what is gone over at each step: less than the state, where chunks of them are one."""
        length = chunk_length(learner, learner_state) if isinstance(self.scan, Invertible) else 0
        return touched(learner_state, length) if length else learner_state

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> tuple[()]:
        """Nothing persists from one meta-step to the next."""
        return ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Meta-loss and θ-gradient of one lifetime.

        Args:
            learner: who lives.
            theta: θ.
            task: what it lives through.
            state: `()`.
            key: decides the fresh weights.

        Returns:
            (estimate, state).
        """
        context, learner_state = learner.init(key, task)
        return self.from_start(learner, theta, context, learner_state), state

    def from_start(
        self, learner: Learner, theta: Theta, context: LifetimeContext, learner_state: LearnerState
    ) -> Estimate:
        """Meta-loss and θ-gradient of a lifetime that is about to begin.

        Args:
            learner: who lives.
            theta: θ.
            context: constant part of the lifetime.
            carry: state before its first step.

        Returns:
            The estimate.
        """
        if isinstance(self.scan, Invertible) and isinstance(learner, Lifetime):
            if length := chunk_length(learner, learner_state):
                return chunked_gradient(learner, length, theta, context, learner_state)
            if length := segment_length(learner, learner_state):
                return invertible_gradient(learner, length, theta, context, learner_state)

        def meta_loss(theta: Theta) -> tuple[Any, Any]:
            loss, (_, metrics) = segment_loss(learner, theta, context, learner_state, 0, learner.steps, self.scan)
            return loss, metrics

        (loss, metrics), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics)
