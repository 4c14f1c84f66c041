"""A rule with some of its terms alone, and the coefficients that gradient descent finds for them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metarule.analysis.evaluation import over_lifetimes
from metarule.lifetime.learner import Lifetime
from metarule.lifetime.unroll import lifetime_loss
from metarule.meta import Gradient, train
from metarule.parallel.devices import sharded_jit
from metarule.types import (
    Integer,
    LearnerState,
    LifetimeContext,
    Metrics,
    PRNGKey,
    StepOutput,
    Stimulus,
    TaskFamily,
    Theta,
)

__all__ = ["Fitted", "Masked", "fit"]


class Masked(NamedTuple):
    """A learner whose rule has some terms alone.

    θ keeps its shape: coefficients of the other terms are 0 and have no gradient, so that one program serves every
    choice of terms, and many of them side by side.

    Attributes:
        lifetime: the learner with every term; θ is an array whose last axis are the terms.
        mask: which terms there are.
    """

    lifetime: Lifetime
    mask: Bool[Array, " terms"]

    @property
    def steps(self) -> int:
        """Length of the lifetime."""
        return self.lifetime.steps

    @property
    def tasks(self) -> TaskFamily:
        """What there is to learn."""
        return self.lifetime.tasks

    def only(self, theta: Theta) -> Theta:
        """θ without the other terms."""
        return jnp.where(jnp.broadcast_to(self.mask, theta.shape), theta, 0)

    def with_steps(self, steps: int) -> "Masked":
        """The same learner with a lifetime of another length."""
        return self._replace(lifetime=self.lifetime.with_steps(steps))

    def init_theta(self, key: PRNGKey) -> Theta:
        """Draw an initial θ."""
        return self.only(self.lifetime.init_theta(key))

    def theta_scale(self) -> Theta:
        """Natural size of each number of θ."""
        return self.lifetime.theta_scale()

    def init(self, key: PRNGKey, task: Any) -> tuple[LifetimeContext, LearnerState]:
        """A fresh network that is about to meet a task."""
        return self.lifetime.init(key, task)

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """Stimulus at step t."""
        return self.lifetime.stimulus(context, t)

    def step(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput]:
        """Present a stimulus, then change the weights."""
        return self.lifetime.step(self.only(theta), context, state, stimulus)

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """Final share of the meta-loss and the scores, with the rule off."""
        return self.lifetime.evaluate(self.only(theta), context, state)


class Fitted(NamedTuple):
    """What forms come to once their coefficients are learned.

    Attributes:
        theta: learned θ of each [forms, …].
        loss: mean meta-loss of each on the same lifetimes, ∞ where one of these is not finite [forms].
    """

    theta: Theta
    loss: Float[Array, " forms"]


@sharded_jit("lifetime", "optimizer", "lifetimes", "chunk_size")
def fit(
    lifetime: Lifetime,
    optimizer: Gradient,
    pool: Any,
    key: PRNGKey,
    masks: Bool[Array, "forms terms"],
    lifetimes: int,
    chunk_size: int,
) -> Fitted:
    """Learn the coefficients of several forms by gradient descent, and see what they are worth.

    All forms meet the same tasks, from the same initial weights, while they learn and when they are judged.

    Args:
        lifetime: the learner with every term.
        optimizer: how coefficients are learned.
        pool: training tasks.
        key: decides the lifetimes.
        masks: which terms each form has.
        lives: training lifetimes on which it is judged, others than those that it learned from.
        chunk_size: forms side by side, which bounds the memory.

    Returns:
        θ and meta-loss of each.
    """
    train_key, judge_key = jax.random.split(key)

    def one(mask: Bool[Array, " terms"]) -> Fitted:
        learner = Masked(lifetime, mask)
        theta = learner.only(train(learner, optimizer, pool, train_key)[0])

        def one_lifetime(number: Integer) -> Float[Array, ""]:
            task_key, lifetime_key = jax.random.split(jax.random.fold_in(judge_key, number))
            return lifetime_loss(lifetime, theta, lifetime.tasks.sample(task_key, pool, number), lifetime_key)[0]

        loss = jnp.mean(over_lifetimes(one_lifetime, lifetimes))
        return Fitted(theta, jnp.where(jnp.isfinite(loss), loss, jnp.inf))

    return jax.lax.map(one, masks, batch_size=chunk_size)
