"""A bandit of three arms, the smallest task in a closed loop, which tests of choices share."""

from typing import ClassVar

import jax.numpy as jnp

from metarule.config.schema import Checked
from metarule.types import Reaction, Split, Stimulus


class Arms(Checked, frozen=True, kw_only=True):
    """Each arm has a fixed reward, and the network chooses one at each step."""

    inputs: ClassVar[int] = 2
    outputs: ClassVar[int] = 3
    activation: ClassVar[str] = "choice"

    def split(self, seed):
        return Split(jnp.arange(3.0), jnp.arange(3.0))

    def sample(self, key, pool, index):
        return jnp.array([0.1, 0.5, 0.9])

    def stimulus(self, task, t, key):
        return Stimulus(jnp.ones(self.inputs), jnp.zeros(self.outputs))

    def start(self, task):
        return jnp.zeros(())

    def sense(self, task, state, stimulus):
        return stimulus

    def react(self, task, state, output, key):
        reward = jnp.sum(task * output)
        return Reaction(state + reward, reward)

    def scores(self, task, state):
        return {"reward": state / (1 + state)}
