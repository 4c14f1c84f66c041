"""Learners with a subset of the terms of a rule, and gradient descent on their coefficients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metarule.analysis.evaluation import map_lifetimes, sample_lifetime
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta import Gradient, train
from metarule.parallel.devices import sharded_jit
from metarule.protocols import TaskFamily
from metarule.types import Integer, LearnerState, LifetimeContext, Metrics, PRNGKey, StepOutput, Stimulus, Theta

__all__ = ["Fitted", "MaskedLearner", "fit"]


class MaskedLearner(NamedTuple):
    """Learner whose rule has a subset of the terms.

    θ keeps its shape; coefficients of the other terms are 0 and have no gradient. So one compiled program serves every
    subset, and a batch of subsets can be vmapped.

    Attributes:
        lifetime: the learner with all terms; θ is an array with the terms on its last axis.
        mask: true for the terms of the subset.
    """

    lifetime: Lifetime
    mask: Bool[Array, " terms"]

    @property
    def steps(self) -> int:
        """Length of a lifetime."""
        return self.lifetime.steps

    @property
    def tasks(self) -> TaskFamily:
        """Tasks to learn."""
        return self.lifetime.tasks

    @property
    def samples(self) -> bool:
        """True if the circuit samples, such as actions."""
        return self.lifetime.samples

    @property
    def learns_initial(self) -> bool:
        """True if the initial weights are meta-learned."""
        return self.lifetime.learns_initial

    def masked(self, theta: Theta) -> Theta:
        """θ with 0 for the other terms."""
        return jnp.where(self.mask, theta, 0)

    def with_steps(self, steps: int) -> "MaskedLearner":
        """The same learner with another number of steps."""
        return self._replace(lifetime=self.lifetime.with_steps(steps))

    def init_theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""
        return self.masked(self.lifetime.init_theta(key))

    def theta_scale(self) -> Theta:
        """Scale of each parameter."""
        return self.lifetime.theta_scale()

    def init(self, theta: Theta, key: PRNGKey, task: Any) -> tuple[LifetimeContext, LearnerState]:
        """Draw a fresh network for a task."""
        return self.lifetime.init(self.masked(theta), key, task)

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """Stimulus at step t."""
        return self.lifetime.stimulus(context, t)

    def step(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput]:
        """Present a stimulus, then change the weights."""
        return self.lifetime.step(self.masked(theta), context, state, stimulus)

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """Final loss and metrics, with plasticity off."""
        return self.lifetime.evaluate(self.masked(theta), context, state)


class Fitted(NamedTuple):
    """Structures with learned coefficients.

    Attributes:
        theta: learned θ of each [structures, …].
        loss: mean meta-loss of each on the same lifetimes; ∞ if one is not finite [structures].
    """

    theta: Theta
    loss: Float[Array, " structures"]


@sharded_jit("lifetime", "optimizer", "lifetimes", "chunk_size")
def fit(
    lifetime: Lifetime,
    optimizer: Gradient,
    pool: Any,
    key: PRNGKey,
    masks: Bool[Array, "structures terms"],
    lifetimes: int,
    chunk_size: int,
) -> Fitted:
    """Learn the coefficients of several structures by gradient descent, and measure their meta-losses.

    All structures get the same tasks and initial weights, in training and in the measurement.

    Args:
        lifetime: the learner with all terms.
        optimizer: optimiser of the coefficients.
        pool: training tasks.
        key: decides the lifetimes.
        masks: terms of each structure.
        lifetimes: training lifetimes of the measurement, which differ from those of gradient descent.
        chunk_size: structures in a chunk, which bounds the memory.
    """
    train_key, test_key = jax.random.split(key)

    def fit_one(mask: Bool[Array, " terms"]) -> Fitted:
        learner = MaskedLearner(lifetime, mask)
        theta = learner.masked(train(learner, optimizer, pool, train_key)[0])

        def one_lifetime(number: Integer) -> Float[Array, ""]:
            task, lifetime_key, _ = sample_lifetime(lifetime, pool, test_key, number)
            return lifetime_loss(lifetime, theta, task, lifetime_key)[0]

        loss = jnp.mean(map_lifetimes(one_lifetime, lifetimes))
        return Fitted(theta, jnp.where(jnp.isfinite(loss), loss, jnp.inf))

    return jax.lax.map(fit_one, masks, batch_size=chunk_size)
