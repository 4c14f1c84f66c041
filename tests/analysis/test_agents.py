"""Agents that are no networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarule import Bandit, InnerLoop, Navigation
from metarule.analysis.agents import QLearning, QMemory
from metarule.types import Stimulus


@pytest.mark.parametrize(("tasks", "rewarded"), [(Navigation(size=3), 0.0), (Bandit(), 0.45)])
def test_the_trace_of_q_learning_ends_with_an_episode(tasks, rewarded):
    agent = QLearning(tasks=tasks, inner_loop=InnerLoop(steps=1))
    theta = {"coefficients": jnp.zeros(1), "logit_decay": jnp.zeros(1)}
    shape = (tasks.inputs, tasks.outputs)
    for reward, left in ((0.0, 0.45), (1.0, rewarded)):
        memory = QMemory(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(()), jnp.asarray(reward))
        stimulus = Stimulus(jnp.zeros(tasks.inputs), jnp.zeros(tasks.outputs))
        _, after = agent.choose(theta, None, memory, stimulus, jax.random.key(0))
        np.testing.assert_allclose(after.trace, left, rtol=1e-6)
