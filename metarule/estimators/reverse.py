"""Reverse-mode differentiation through the lifetime."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from metarule.config.schema import Checked
from metarule.estimators.chunked import chunk_length, chunk_working_set, chunked_gradient
from metarule.estimators.inversion import inverted_gradient, segment_length
from metarule.lifetime.scans import Invertible, Plain, Remat, Segmented
from metarule.lifetime.score_function import RunningMean, baseline_of, initial_mean, samples, updated_mean
from metarule.lifetime.unroll import is_compiled, sampled_loss, segment_loss
from metarule.protocols import Learner
from metarule.types import Estimate, LearnerState, LifetimeContext, PRNGKey, Theta

__all__ = ["Reverse"]


class Reverse(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reverse"):
    """Exact θ-gradient by back-propagation through every synaptic change of the lifetime.

    ∂loss/∂θ = Σ_t ∂loss/∂w_t · ∂Δw_t/∂θ, with ∂loss/∂w_t propagated back through the unrolled lifetime

    Where actions are sampled, the score-function term is added, so that the gradient is unbiased; see
    `metarule.lifetime.score_function`. Its baseline is a running mean over earlier lifetimes.

    Time of a few forward passes whatever the size of θ; memory as the scan says. Use it for exact gradients of rules
    with many coefficients over lifetimes that fit into memory. One case is not exact: the `invertible` scan takes
    weights that were clipped by less than rounding for weights that were not clipped, which put the gradient off by 5 %
    in a contrived case; the other scans are exact there, too.

    Attributes:
        scan: how the time loop is differentiated.
    """

    scan: Plain | Remat | Segmented | Invertible = Invertible()

    def working_set(self, learner: Learner, state: LearnerState) -> Any:
        """Shapes of the arrays that a step touches: less than the state where steps are computed in chunks."""
        length = chunk_length(learner, state) if isinstance(self.scan, Invertible) else 0
        return chunk_working_set(state, length) if length else state

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> RunningMean | tuple[()]:
        """Running mean of the losses from each step on, where actions are sampled; else no state."""
        return initial_mean() if samples(learner) else ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimate meta-loss and θ-gradient of one lifetime; the key decides its fresh weights."""
        fresh = partial(learner.init, key=key, task=task)
        if samples(learner):
            return self._of_samples(learner, theta, fresh, state)
        return self._fast_form(learner, theta, *fresh(theta)) or self._differentiate(learner, theta, fresh), state

    def from_start(self, learner: Learner, theta: Theta, context: LifetimeContext, state: LearnerState) -> Estimate:
        """Estimate meta-loss and θ-gradient of a lifetime from an initial state that does not depend on θ."""
        fast = self._fast_form(learner, theta, context, state)
        return fast or self._differentiate(learner, theta, lambda theta: (context, state))

    def _fast_form(
        self, learner: Learner, theta: Theta, context: LifetimeContext, state: LearnerState
    ) -> Estimate | None:
        """Estimate by chunks of steps or by inverted steps; None where neither is possible or faster."""
        if not isinstance(self.scan, Invertible):
            return None
        if length := chunk_length(learner, state):
            return chunked_gradient(learner, length, theta, context, state)  # type: ignore[arg-type]
        length = segment_length(learner, state)
        if length and not is_compiled(learner, theta, context, state):
            return inverted_gradient(learner, length, theta, context, state)  # type: ignore[arg-type]
        return None

    def _differentiate(self, learner: Learner, theta: Theta, fresh: Callable[[Theta], tuple[Any, Any]]) -> Estimate:
        def meta_loss(theta: Theta) -> tuple[Any, Any]:
            loss, (_, metrics) = segment_loss(learner, theta, *fresh(theta), 0, learner.steps, self.scan)
            return loss, metrics

        (loss, metrics), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics)

    def _of_samples(
        self, learner: Learner, theta: Theta, fresh: Callable[[Theta], tuple[Any, Any]], mean: RunningMean
    ) -> tuple[Estimate, RunningMean]:
        """Estimate with the score-function term, whose baseline is the mean over earlier lifetimes."""

        def meta_loss(theta: Theta) -> tuple[Any, Any]:
            baseline = baseline_of(mean, learner.steps)
            loss, (_, metrics, left) = sampled_loss(
                learner, theta, *fresh(theta), 0, learner.steps, self.scan, baseline
            )
            return loss, (metrics, left)

        (loss, (metrics, left)), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics), updated_mean(mean, left)
