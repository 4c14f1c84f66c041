"""Backprop with stateful optimisers."""

import jax.numpy as jnp
from immutabledict import immutabledict
from jaxtyping import Array, Float
from msgspec import Struct
from msgspec.structs import replace

from metarule.lifetime.bounds import bounded
from metarule.lifetime.learner import Lifetime
from metarule.meta.transforms import Arguments, make_transform
from metarule.protocols import TaskFamily
from metarule.rules.lifting import complete
from metarule.types import Integer, LearnerState, LifetimeContext, Metrics, PRNGKey, PyTree, StepOutput, Stimulus, Theta

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

    def init_theta(self, key: PRNGKey) -> Theta:
        """A learning rate of 0."""
        return self.backprop.init_theta(key)

    def theta_scale(self) -> Theta:
        """Scale of the learning rate."""
        return self.backprop.theta_scale()

    def init(self, key: PRNGKey, task: PyTree) -> tuple[LifetimeContext, LearnerState]:
        """Draw the network of `backprop`, with the initial state of the optimiser as memory."""
        context, state = self.backprop.init(key, task)
        # The initial state of an optimiser does not depend on its rate.
        return context, state._replace(memory=(make_transform(self.name, 1.0, self.arguments).init(state.weights),))

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """Stimulus at step t."""
        return self.backprop.stimulus(context, t)

    def step(
        self, theta: Float[Array, " 1"], context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput]:
        """Present a stimulus, then take one step of the optimiser."""
        lifetime, rule = self.backprop, complete(self.backprop.rule)
        response = lifetime.circuit.step(state.weights, context.wiring, state.circuit, stimulus)
        gradient = tuple(-rule.update(jnp.ones_like(theta), (), synapse)[0] for synapse in response.synapses)
        transform = make_transform(self.name, theta[0], self.arguments)
        updates, memory = transform.update(gradient, state.memory[0], state.weights)
        bound = lifetime.inner_loop.weight_bound
        weights = tuple(
            bounded(w + change.astype(w.dtype), bound) for w, change in zip(state.weights, updates, strict=True)
        )
        loss = lifetime.step_loss(response.output, stimulus.target)
        return LearnerState(weights, (memory,), response.state), StepOutput(loss, response.output, response.activity)

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """Evaluate the network with plasticity off."""
        return self.backprop.evaluate(theta, context, state)
