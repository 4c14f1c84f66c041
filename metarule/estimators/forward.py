"""Forward-mode differentiation: one tangent of the state for each parameter."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from metarule.config.schema import Checked
from metarule.lifetime.unroll import lifetime_loss
from metarule.protocols import Learner
from metarule.types import Estimate, Metrics, PRNGKey, Theta

__all__ = ["Forward"]


class Forward(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="forward"):
    """Exact θ-gradient by forward mode: one tangent of the network for each parameter.

    ∂w_{t+1}/∂θₖ = ∂w_t/∂θₖ + ∂Δw_t/∂w_t · ∂w_t/∂θₖ + ∂Δw_t/∂θₖ,  ∂loss/∂θₖ = Σ_t ∂loss_t/∂w_t · ∂w_t/∂θₖ

    Time of 1 + |θ| forward passes or more; memory O(|θ| · state), whatever the length of the lifetime, because nothing
    is stored over time. Use it for 7 to 16 coefficients over lifetimes so long that reverse mode does not fit.

    References:
        Williams, Zipser 1989 (real-time recurrent learning); Franceschi et al. 2017 (forward hyper-gradients).
    """

    def init(self, learner: Learner, theta: Theta, key: PRNGKey) -> tuple[()]:
        """No state."""
        return ()

    def estimate(self, learner: Learner, theta: Theta, task: Any, state: Any, key: PRNGKey) -> tuple[Estimate, Any]:
        """Estimate meta-loss and θ-gradient of one lifetime; the key decides its fresh weights."""
        flat, unravel = ravel_pytree(theta)

        def meta_loss(flat: Float[Array, " parameters"]) -> tuple[Float[Array, ""], Metrics]:
            return lifetime_loss(learner, unravel(flat), task, key)

        def derivative(direction: Float[Array, " parameters"]) -> tuple[Float[Array, ""], Float[Array, ""], Metrics]:
            return jax.jvp(meta_loss, (flat,), (direction,), has_aux=True)

        # The lifetime does not depend on the direction: it is computed once for all tangents.
        directions = jnp.eye(flat.size, dtype=flat.dtype)
        loss, derivatives, metrics = jax.vmap(derivative, out_axes=(None, 0, None))(directions)
        return Estimate(loss, unravel(derivatives), metrics), state
