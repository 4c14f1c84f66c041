"""Agents that are no networks, to which networks in a closed loop are compared: Q-learning and ideal observers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from msgspec import Struct
from msgspec.structs import replace

from metarule.lifetime.closed_loop import keyed_stimulus, sense
from metarule.lifetime.inner_loop import InnerLoop
from metarule.prng import run_key
from metarule.protocols import ClosedLoop, HasIdealObserver, InEpisodes
from metarule.tasks.base import reaction_loss
from metarule.tasks.scores import scores_of
from metarule.types import (
    Integer,
    LearnerState,
    LifetimeContext,
    Metrics,
    PRNGKey,
    StepOutput,
    Stimulus,
    Theta,
)

__all__ = ["Agent", "IdealObserver", "QLearning", "QMemory"]


class Agent(Struct, frozen=True, kw_only=True):
    """A learner without weights that chooses one of the outputs at each step of a task in a closed loop.

    Attributes:
        tasks: task family in a closed loop.
        inner_loop: length of a lifetime; the other settings are those of networks.
    """

    tasks: ClosedLoop
    inner_loop: InnerLoop

    @property
    def steps(self) -> int:
        """Length of the lifetime."""
        return self.inner_loop.steps

    def with_steps(self, steps: int) -> "Agent":
        """Copy with a lifetime of another length."""
        return replace(self, inner_loop=replace(self.inner_loop, steps=steps))

    def init_theta(self, key: PRNGKey) -> Theta:
        """θ, a learning rate, of 0."""
        return jnp.zeros(1)

    def theta_scale(self) -> Theta:
        """Scale of each parameter, 1."""
        return jax.tree.map(jnp.ones_like, self.init_theta(run_key(0)))

    def init(self, theta: Theta, key: PRNGKey, task: Any) -> tuple[LifetimeContext, LearnerState]:
        """Constants of a lifetime, and the state before its first step; the memory is that of the agent."""
        _, stimulus_key = jax.random.split(key)
        state = LearnerState((), (self.start(task),), (), self.tasks.start(task))
        return LifetimeContext(task, (), stimulus_key), state

    def stimulus(self, context: LifetimeContext, t: Integer) -> Stimulus:
        """Stimulus at step t, with the key of a network at this step."""
        return keyed_stimulus(self.tasks, context, t)

    def step(
        self, theta: Theta, context: LifetimeContext, state: LearnerState, stimulus: Stimulus
    ) -> tuple[LearnerState, StepOutput]:
        """Choose, let the task react, and learn."""
        assert stimulus.key is not None, "a step in a closed loop needs a key"
        choice_key, reaction_key = jax.random.split(stimulus.key)
        sensed = sense(self.tasks, context.task, state.task, stimulus)
        choice, memory = self.choose(theta, context.task, state.memory[0], sensed, choice_key)
        reaction = self.tasks.react(context.task, state.task, choice, reaction_key)
        memory = self.learn(context.task, memory, choice, reaction.reward)
        output = StepOutput(reaction_loss(reaction) / self.steps, choice)
        return LearnerState((), (memory,), (), reaction.state), output

    def evaluate(self, theta: Theta, context: LifetimeContext, state: LearnerState) -> tuple[Float[Array, ""], Metrics]:
        """No final loss, and the scores of the task."""
        scores = self.tasks.scores(context.task, state.task)
        return jnp.zeros(()), scores_of(self.tasks, scores, state.memory)

    def start(self, task: Any) -> Any:
        """Memory before the first step."""
        raise NotImplementedError

    def choose(
        self, theta: Theta, task: Any, memory: Any, stimulus: Stimulus, key: PRNGKey
    ) -> tuple[Float[Array, " outputs"], Any]:
        """Choice, one-hot, and memory after it."""
        raise NotImplementedError

    def learn(self, task: Any, memory: Any, choice: Float[Array, " outputs"], reward: Float[Array, ""]) -> Any:
        """Memory after the reward that arrived."""
        raise NotImplementedError


class IdealObserver(Agent, frozen=True, kw_only=True):
    """Observer that knows the task family and infers the state of the task by Bayes' rule, as far as it has one."""

    def __post_init__(self) -> None:
        if not isinstance(self.tasks, HasIdealObserver):
            raise ValueError(f"ideal_observer: {type(self.tasks).__name__} has none")

    def init_theta(self, key: PRNGKey) -> Theta:
        """No θ: an observer has no rate."""
        return ()

    def start(self, task: Any) -> Any:
        """Belief before the first step."""
        return self.tasks.ideal_start(task)  # type: ignore[attr-defined]

    def choose(
        self, theta: Theta, task: Any, memory: Any, stimulus: Stimulus, key: PRNGKey
    ) -> tuple[Float[Array, " outputs"], Any]:
        """Choice with the largest expected reward."""
        return self.tasks.ideal_choice(task, memory), memory  # type: ignore[attr-defined]

    def learn(self, task: Any, memory: Any, choice: Float[Array, " outputs"], reward: Float[Array, ""]) -> Any:
        """Belief after a reward."""
        return self.tasks.ideal_update(task, memory, choice, reward)  # type: ignore[attr-defined]


class QMemory(NamedTuple):
    """Memory of Q-learning.

    Attributes:
        values: Q, one row an input [inputs, outputs].
        trace: eligibility of each entry.
        value: Q of the last choice.
        reward: reward after it.
    """

    values: Float[Array, "inputs outputs"]
    trace: Float[Array, "inputs outputs"]
    value: Float[Array, ""]
    reward: Float[Array, ""]


class QLearning(Agent, frozen=True, kw_only=True):
    """Q(λ) with values that are linear in the input, tabular where inputs are one-hot.

    e ← γ·λ·e + x ⊗ a,  Q ← Q + η·(r + γ·[r = 0]·max_b Q(x′, b) − Q(x, a))·e,  P(a) = (1 − ε)·[a is best] + ε/n

    x is the input, a the choice, r the reward after it and x′ the next input; an episode ends with its reward. So does
    the trace where tasks are `InEpisodes`; elsewhere later rewards may be for earlier choices. θ is the learning rate η
    and, as its logit, the decay λ of the trace. Equal values are chosen with equal chances.

    Attributes:
        discount: γ.
        exploration: ε.
        optimism: initial value; the largest reward makes the agent try every choice.

    References:
        Watkins 1989; Sutton, Barto 2018, section 12.10, without the cut of traces after exploration.
    """

    discount: float = 0.9
    exploration: float = 0.05
    optimism: float = 1.0

    def init_theta(self, key: PRNGKey) -> Theta:
        """A learning rate of 0 and a decay of ½."""
        return {"coefficients": jnp.zeros(1), "logit_decay": jnp.zeros(1)}

    def start(self, task: Any) -> QMemory:
        """Optimistic values, and traces of 0."""
        trace = jnp.zeros((self.tasks.inputs, self.tasks.outputs))
        return QMemory(trace + self.optimism, trace, jnp.zeros(()), jnp.zeros(()))

    def choose(
        self, theta: Theta, task: Any, memory: QMemory, stimulus: Stimulus, key: PRNGKey
    ) -> tuple[Float[Array, " outputs"], QMemory]:
        """Learn from the step before, now that the next input is known, then choose."""
        x, rate, decay = stimulus.input, theta["coefficients"][0], jax.nn.sigmoid(theta["logit_decay"][0])
        later = jnp.where(memory.reward > 0, 0.0, self.discount * jnp.max(x @ memory.values))
        error = memory.reward + later - memory.value
        values = memory.values + rate * error * memory.trace
        random_key, tie_key = jax.random.split(key)
        now, outputs = x @ values, self.tasks.outputs
        # Random numbers order equal values.
        ranks = jnp.where(now >= jnp.max(now), jax.random.uniform(tie_key, now.shape), -1.0)
        draw = jax.random.uniform(random_key, (outputs + 1,))
        order = jnp.where(draw[0] < self.exploration, draw[1:], ranks)
        choice = (order >= jnp.max(order)).astype(now.dtype)
        left = self.discount * decay * memory.trace
        if isinstance(self.tasks, InEpisodes) and self.tasks.in_episodes:
            left = jnp.where(memory.reward > 0, 0.0, left)
        return choice, QMemory(values, left + jnp.outer(x, choice), now @ choice, memory.reward)

    def learn(self, task: Any, memory: QMemory, choice: Float[Array, " outputs"], reward: Float[Array, ""]) -> QMemory:
        """Remember the reward until the next input is known."""
        return memory._replace(reward=reward)
