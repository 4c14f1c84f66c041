"""Forward-mode differentiation: what each coefficient changes is carried along with the lifetime."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from metarule.config.schema import Checked
from metarule.lifetime.unroll import lifetime_loss
from metarule.types import Estimate, Learner, Metrics, PRNGKey, Theta

__all__ = ["Forward"]


class Forward(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="forward"):
    """Exact θ-gradient, carried forward: one tangent of the whole network for each number of θ.

    ∂w_{t+1}/∂θₖ = ∂w_t/∂θₖ + ∂Δw_t/∂w_t · ∂w_t/∂θₖ + ∂Δw_t/∂θₖ,  ∂loss/∂θₖ = Σ_t ∂loss_t/∂w_t · ∂w_t/∂θₖ

    Time of 1 + |θ| forward passes or more; memory O(|θ| · carry), whatever the length of the lifetime, for nothing is
    stored over time. Pick it for 7 to 16 coefficients over lifetimes so long that reverse mode does not fit.

    References:
        Williams, Zipser 1989 (real-time recurrent learning); Franceschi et al. 2017 (forward hyper-gradients).
    """

    @property
    def lifetimes(self) -> int:
        """Lifetimes that one estimate costs."""
        return 1

    @property
    def whole(self) -> bool:
        """An estimate is of a whole lifetime."""
        return True

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
        flat, unravel = ravel_pytree(theta)

        def meta_loss(flat: Float[Array, " numbers"]) -> tuple[Float[Array, ""], Metrics]:
            return lifetime_loss(learner, unravel(flat), task, key)

        def push(direction: Float[Array, " numbers"]) -> tuple[Float[Array, ""], Float[Array, ""], Metrics]:
            return jax.jvp(meta_loss, (flat,), (direction,), has_aux=True)

        # The life itself does not depend on the direction: it is lived once, beside all its tangents.
        directions = jnp.eye(flat.size, dtype=flat.dtype)
        loss, slopes, metrics = jax.vmap(push, out_axes=(None, 0, None))(directions)
        return Estimate(loss, unravel(slopes), metrics), state
