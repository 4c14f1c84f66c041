"""Backprop with stateful optimisers."""

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
    """Learner whose weights follow the gradient of the loss of each step with an Optax optimiser.

    g_t = ∂loss_t/∂w,  w ← clip(w + Optax(g_t; θ), ±weight_bound)

    θ is the learning rate. −g_t is the change of the delta rule of rate 1 with feedback over the transpose and f′. This
    is a baseline, not a local rule.

    Attributes:
        backprop: the same circuit with plain gradient descent, from `metarule.backprop`.
        name: Optax optimiser.
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
        """Tasks to learn."""
        return self.backprop.tasks

    def with_steps(self, steps: int) -> "Descent":
        """The same learner with another number of steps."""
        return replace(self, backprop=self.backprop.with_steps(steps))

    def theta(self, key: PRNGKey) -> Theta:
        """A learning rate of 0."""
        return self.backprop.theta(key)

    def theta_scale(self) -> Theta:
        """Scale of the learning rate."""
        return self.backprop.theta_scale()

    def init(self, key: PRNGKey, task: PyTree) -> tuple[LifetimeContext, LearnerState]:
        """Draw the initial weights of `backprop`, with the initial state of the optimiser."""
        context, learner_state = self.backprop.init(key, task)
        # The initial state of an optimiser does not depend on its rate.
        return context, learner_state._replace(
            memory=(make_transform(self.name, 1.0, self.arguments).init(learner_state.weights),)
        )

    def step(
        self, theta: Float[Array, " 1"], context: LifetimeContext, learner_state: LearnerState, t: Integer
    ) -> tuple[LearnerState, StepOutput]:
        """Present one stimulus and update the weights with the optimiser."""
        backprop = self.backprop
        stimulus = backprop.tasks.stimulus(context.task, t, jax.random.fold_in(context.key, t))
        activity, output, projections = backprop.circuit.step(
            learner_state.weights, context.wiring, learner_state.activity, stimulus
        )
        gradient = tuple(-backprop.rule.update(jnp.ones_like(theta), (), synapses)[0] for synapses in projections)
        transform = make_transform(self.name, theta[0], self.arguments)
        updates, opt_state = transform.update(gradient, learner_state.memory[0], learner_state.weights)
        bound = backprop.inner_loop.weight_bound
        weights = tuple(
            bounded(w + change.astype(w.dtype), bound) for w, change in zip(learner_state.weights, updates, strict=True)
        )
        loss = backprop.inner_loop.online_loss_weight / backprop.steps * backprop.tasks.loss(output, stimulus.target)
        return LearnerState(weights, (opt_state,), activity), StepOutput(loss, output)

    def evaluate(
        self, theta: Theta, context: LifetimeContext, learner_state: LearnerState
    ) -> tuple[Float[Array, ""], Metrics]:
        """Final loss and metrics of the network."""
        return self.backprop.evaluate(theta, context, learner_state)
