"""Back-propagation through a window of the lifetime at a time."""

from typing import Annotated, Any

import jax
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.estimators.windows import RunningLifetime, continue_or_restart, ended_lifetime
from metarule.lifetime.scans import Plain, Remat, Segmented
from metarule.lifetime.unroll import segment_loss
from metarule.types import Estimate, Learner, LearnerState, Metrics, PRNGKey, Theta

__all__ = ["Truncated"]


class Truncated(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="truncated"):
    """θ-gradient through a window of the lifetime; the network lives on from one meta-step to the next.

    g = ∂/∂θ Σ_{t in window} loss_t, with the network at the start of the window taken as given

    The assessment counts in the window with which the lifetime ends; with the next meta-step a new lifetime begins, on a new
    task. Time and memory are those of reverse mode over `window` steps, however long the lifetime. It is biased:
    what θ did before the window is not seen, so that rules that pay off late look worse than they are. Pick it where
    whole lifetimes are too long or their gradients explode, and effects are short.

    The meta-loss that it reports is that of the window, and the scores are those of the network as the window ends. A
    life that diverges gives way to a new one.

    Attributes:
        window: steps lived in a meta-step; the last window of a lifetime is shorter where it is no divisor.
        staggered: the first lifetime of each network begins at a window drawn at random, as if it had missed what came
            before, so that lives that are lived side by side do not all end at once.
        scan: how the loop over the window is differentiated.

    References:
        Williams, Peng 1990 (truncated back-propagation); Wu et al. 2018 (its short-horizon bias).
    """

    window: Annotated[int, Meta(ge=1, le=10_000_000, description="steps lived in a meta-step")] = 50
    staggered: Annotated[bool, Meta(description="first lifetimes begin at random windows, not to end all at once")] = (
        True
    )
    scan: Annotated[Plain | Remat | Segmented, Meta(description="how the time loop is differentiated")] = Remat()

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs, at most."""
        return 1

    @property
    def whole(self) -> bool:
        """An estimate is of a window of a lifetime."""
        return False

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> RunningLifetime:
        """A life that is over, and where the next one begins."""
        return ended_lifetime(learner, self.window, self.staggered, key)

    def estimate(
        self, learner: Learner, theta: Theta, task: Any, state: RunningLifetime, key: PRNGKey
    ) -> tuple[Estimate, RunningLifetime]:
        """Meta-loss and θ-gradient of the next window.

        Args:
            learner: who lives.
            theta: θ.
            task: what the next life is lived through, if one begins.
            state: the lifetime so far.
            key: decides the fresh weights of a lifetime that begins.

        Returns:
            (estimate, the lifetime after the window).
        """
        now = continue_or_restart(learner, state, task, key)

        def meta_loss(theta: Theta) -> tuple[Any, tuple[LearnerState, Metrics]]:
            return segment_loss(learner, theta, now.context, now.state, now.t, self.window, self.scan)

        (loss, (learner_state, metrics)), gradient = jax.value_and_grad(meta_loss, has_aux=True)(theta)
        return Estimate(loss, gradient, metrics), now._replace(state=learner_state, t=now.t + self.window)
