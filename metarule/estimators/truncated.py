"""Back-propagation through one window of the lifetime at a time."""

from typing import Annotated, Any

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.base import check_estimator
from metarule.estimators.windows import RunningLifetime, continue_or_restart, ended_lifetime
from metarule.lifetime.scans import Plain, Remat, Segmented
from metarule.lifetime.unroll import segment_loss
from metarule.protocols import Learner
from metarule.types import Estimate, LearnerState, Metrics, PRNGKey, Theta

__all__ = ["Truncated"]


class Truncated(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="truncated"):
    """θ-gradient through a window of the lifetime; the network continues from one meta-step to the next.

    g = ∂/∂θ Σ_{t in window} loss_t, with the network at the start of the window as a constant

    The final evaluation counts in the window with which the lifetime ends; the next meta-step begins a new lifetime on
    a new task. Time and memory are those of reverse mode over `window` steps, whatever the length of the lifetime. The
    gradient is biased: it ignores what θ did before the window, so that rules with late effects look worse than they
    are. Use it where whole lifetimes are too long or their gradients explode, and effects are short.

    The reported meta-loss is that of the window, and the metrics are those of the network at its end. A lifetime that
    diverges is replaced by a new one.

    Attributes:
        window: steps of a meta-step; the last window of a lifetime may be shorter.
        staggered: the first lifetime of each network begins at a random window, so that the lifetimes of a batch do not
            all end at once.
        scan: how the loop over the window is differentiated.

    References:
        Williams, Peng 1990 (truncated back-propagation); Wu et al. 2018 (its short-horizon bias).
    """

    window: Annotated[int, Meta(ge=1, le=10_000_000)] = 50
    staggered: bool = True
    scan: Plain | Remat | Segmented = Remat()

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> RunningLifetime:
        """Make a lifetime that is over, with the start of the next one; refuse learned initial weights."""
        check_estimator(self, learner)
        return ended_lifetime(learner, theta, self.window, self.staggered, key)

    def estimate(
        self, learner: Learner, theta: Theta, task: Any, state: RunningLifetime, key: PRNGKey
    ) -> tuple[Estimate, RunningLifetime]:
        """Estimate meta-loss and θ-gradient of the next window.

        The task is that of the next lifetime, if one begins, and the key decides its fresh weights.
        """
        now = continue_or_restart(learner, theta, state, task, key)

        def meta_loss(theta: Theta) -> tuple[Any, tuple[LearnerState, Metrics]]:
            return segment_loss(learner, theta, now.context, now.state, now.t, self.window, self.scan)

        (loss, (after, metrics)), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics), now._replace(state=after, t=now.t + self.window)
