"""Backprop with optimisers that remember what came before."""

import jax
import jax.numpy as jnp
from immutabledict import immutabledict
from jaxtyping import Array, Float
from msgspec import Struct
from msgspec.structs import replace

from metarule.lifetime.bounds import bounded
from metarule.lifetime.learner import Lifetime
from metarule.meta.transforms import Arguments, make_transform
from metarule.types import Carry, Integer, Life, Metrics, Observation, PRNGKey, PyTree, TaskFamily, Theta

__all__ = ["Descent"]


class Descent(Struct, frozen=True, kw_only=True):
    """A learner whose weights go down the gradient of the loss by an optimiser of Optax, presentation by presentation.

    g_t = ∂loss_t/∂w,  w ← clip(w + Optax(g_t; θ), ±weight_bound)

    θ is the learning rate alone. −g_t is what the delta rule of rate 1 adds where modulators come over the transpose
    with f′. It is no local rule, and there to be compared with.

    Attributes:
        backprop: the same circuit under plain gradient descent, as from `metarule.backprop`.
        name: optimiser of Optax.
        arguments: its arguments besides the learning rate.
    """

    backprop: Lifetime
    name: str
    arguments: Arguments = immutabledict()

    @property
    def presentations(self) -> int:
        """Length of the life."""
        return self.backprop.presentations

    @property
    def tasks(self) -> TaskFamily:
        """What there is to learn."""
        return self.backprop.tasks

    def lasting(self, presentations: int) -> "Descent":
        """The same learner with a life of another length."""
        return replace(self, backprop=self.backprop.lasting(presentations))

    def theta(self, key: PRNGKey) -> Theta:
        """A learning rate of 0."""
        return self.backprop.theta(key)

    def units(self) -> Theta:
        """Natural size of the learning rate."""
        return self.backprop.units()

    def birth(self, key: PRNGKey, task: PyTree) -> tuple[Life, Carry]:
        """A network with the weights that `backprop` is born with, and an optimiser that remembers nothing yet."""
        life, carry = self.backprop.birth(key, task)
        # What an optimiser remembers at first does not depend on its rate.
        return life, carry._replace(memory=(make_transform(self.name, 1.0, self.arguments).init(carry.weights),))

    def step(self, theta: Float[Array, " 1"], life: Life, carry: Carry, time: Integer) -> tuple[Carry, Observation]:
        """One presentation, and one step of the optimiser."""
        whole = self.backprop
        stimulus = whole.tasks.stimulus(life.task, time, jax.random.fold_in(life.key, time))
        activity, output, projections = whole.circuit.step(carry.weights, life.wiring, carry.activity, stimulus)
        gradient = tuple(-whole.rule.update(jnp.ones_like(theta), (), seen)[0] for seen in projections)
        transform = make_transform(self.name, theta[0], self.arguments)
        updates, state = transform.update(gradient, carry.memory[0], carry.weights)
        bound = whole.inner_loop.weight_bound
        weights = tuple(
            bounded(w + change.astype(w.dtype), bound) for w, change in zip(carry.weights, updates, strict=True)
        )
        loss = whole.inner_loop.loss_along / whole.presentations * whole.tasks.loss(output, stimulus.target)
        return Carry(weights, (state,), activity), Observation(loss, output)

    def assess(self, theta: Theta, life: Life, carry: Carry) -> tuple[Float[Array, ""], Metrics]:
        """What the network is worth."""
        return self.backprop.assess(theta, life, carry)
