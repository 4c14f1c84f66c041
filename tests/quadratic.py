"""A learner with a known meta-loss: the squared distance of θ from an optimum that differs between tasks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarule.types import LearnerState, LifetimeContext, StepOutput, Stimulus

OPTIMUM = jnp.array([0.3, -0.2, 0.1])
SCALE = jnp.array([1.0, 1.0, 0.1])


class Tasks(NamedTuple):
    """Tasks are displacements of their optimum from the common one."""

    primary_metric: str = "closeness"
    min_steps: int = 0

    inputs: int = 1
    outputs: int = 1

    def split(self, seed):
        raise NotImplementedError

    stimulus = examples = loss = metrics = split

    def sample(self, key, pool, index):
        return 0.05 * jax.random.normal(jax.random.fold_in(jax.random.key(7), index % 64), (3,))


class Quadratic(NamedTuple):
    """Lifetimes without learning, which diverge if the first parameter exceeds a bound."""

    bound: float = 1e9
    steps: int = 1
    tasks: Tasks = Tasks()

    def with_steps(self, steps):
        return self._replace(steps=steps)

    def init_theta(self, key):
        return jnp.zeros(3)

    def theta_scale(self):
        return SCALE

    def init(self, theta, key, task):
        return LifetimeContext(task, (), key), LearnerState((jnp.zeros((1, 1)),), ((),), ())

    def stimulus(self, context, t):
        return Stimulus(jnp.zeros(1), jnp.zeros(1))

    def step(self, theta, context, state, stimulus):
        return state, StepOutput(jnp.zeros(()), jnp.zeros(1))

    def evaluate(self, theta, context, state):
        loss = jnp.sum(((theta - OPTIMUM - context.task * SCALE) / SCALE) ** 2)
        return jnp.where(theta[0] > self.bound, jnp.nan, loss), {"closeness": -loss}
