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
from metarule.types import (
    Integer,
    LearnerState,
    LifetimeContext,
    Metrics,
    PRNGKey,
    PyTree,
    StepOutput,
    TaskFamily,
    Theta,
)

__all__ = ["Descent"]


class Descent(Struct, frozen=True, kw_only=True):
    """A learner whose weights go down the gradient of the loss by an optimiser of Optax, step by step.

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
    def steps(self) -> int:
        """Length of the lifetime."""
        return self.backprop.steps

    @property
    def tasks(self) -> TaskFamily:
        """What there is to learn."""
        return self.backprop.tasks

    def with_steps(self, steps: int) -> "Descent":
        """The same learner with a lifetime of another length."""
        return replace(self, backprop=self.backprop.with_steps(steps))

    def theta(self, key: PRNGKey) -> Theta:
        """A learning rate of 0."""
        return self.backprop.theta(key)

    def theta_scale(self) -> Theta:
        """Natural size of the learning rate."""
        return self.backprop.theta_scale()

    def init(self, key: PRNGKey, task: PyTree) -> tuple[LifetimeContext, LearnerState]:
        """A network with the weights that `backprop` is born with, and an optimiser that remembers nothing yet."""
        context, learner_state = self.backprop.init(key, task)
        # What an optimiser remembers at first does not depend on its rate.
        return context, learner_state._replace(
            memory=(make_transform(self.name, 1.0, self.arguments).init(learner_state.weights),)
        )

    def step(
        self, theta: Float[Array, " 1"], context: LifetimeContext, learner_state: LearnerState, t: Integer
    ) -> tuple[LearnerState, StepOutput]:
        """One step, and one step of the optimiser."""
        whole = self.backprop
        stimulus = whole.tasks.stimulus(context.task, t, jax.random.fold_in(context.key, t))
        activity, output, projections = whole.circuit.step(
            learner_state.weights, context.wiring, learner_state.activity, stimulus
        )
        gradient = tuple(-whole.rule.update(jnp.ones_like(theta), (), seen)[0] for seen in projections)
        transform = make_transform(self.name, theta[0], self.arguments)
        updates, state = transform.update(gradient, learner_state.memory[0], learner_state.weights)
        bound = whole.inner_loop.weight_bound
        weights = tuple(
            bounded(w + change.astype(w.dtype), bound) for w, change in zip(learner_state.weights, updates, strict=True)
        )
        loss = whole.inner_loop.online_loss_weight / whole.steps * whole.tasks.loss(output, stimulus.target)
        return LearnerState(weights, (state,), activity), StepOutput(loss, output)

    def evaluate(
        self, theta: Theta, context: LifetimeContext, learner_state: LearnerState
    ) -> tuple[Float[Array, ""], Metrics]:
        """What the network is worth."""
        return self.backprop.evaluate(theta, context, learner_state)
