"""Choice among arms that pay with unknown probabilities, which move at random times."""

from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from msgspec import Meta

from metarule.config.schema import Checked
from metarule.prng import Purpose, run_key, stream
from metarule.types import Integer, Metrics, PRNGKey, Reaction, Split, Stimulus

__all__ = ["Bandit", "BanditBelief", "BanditState", "BanditTask"]

Probability = Annotated[float, Meta(ge=0, le=1)]
Range = Annotated[tuple[Probability, ...], Meta(min_length=2, max_length=2)]


class BanditTask(NamedTuple):
    """One bandit.

    Attributes:
        probabilities: reward probability of each arm before the first reversal.
    """

    probabilities: Float[Array, " arms"]


class BanditState(NamedTuple):
    """State of a bandit between steps.

    Attributes:
        probabilities: reward probability of each arm now.
        queue: rewards that have not arrived, the next one first.
        steps: number of steps so far.
        chosen: Σ reward probability of the chosen arms.
        best: Σ reward probability of the best arm.
        hits: number of choices of the best arm.
    """

    probabilities: Float[Array, " arms"]
    queue: Float[Array, " delay"]
    steps: Float[Array, ""]
    chosen: Float[Array, ""]
    best: Float[Array, ""]
    hits: Float[Array, ""]


class BanditBelief(NamedTuple):
    """Belief of the ideal observer between steps.

    Attributes:
        rotation: probability of each rotation of the arms, at the step of the choice whose reward arrives next.
        choices: choices whose rewards have not arrived, the next one first, each one-hot; 0 before the first step.
    """

    rotation: Float[Array, " arms"]
    choices: Float[Array, "delay arms"]


class Bandit(Checked, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="bandit"):
    """A bandit with reversals and delayed rewards, whose task is which arm pays how often.

    A step is one choice. It draws a reward of 1 with the probability of the chosen arm, otherwise of 0, which arrives
    `delay` steps later. After each step the probabilities rotate over the arms with probability 1/reversal, by a random
    number of places; two arms swap. Because the hazard is constant, counting steps does not help. The input is
    constant. The loss of a step is −(probability of the chosen arm), whose expectation is that of −reward. The reward
    of the last `delay` choices never arrives, but counts in the loss.

    Attributes:
        arms: number of arms, each of which is one output neuron.
        reversal: mean number of steps between reversals; 0 for none.
        delay: steps from a choice to its reward; 0 for a reward in the same step.
        best: range of the reward probability of the best arm, from which each task draws.
        other: range of the reward probability of every other arm.

    Raises:
        ValueError: a range whose ends are not in order, or other arms that may be as good as the best one.
    """

    arms: Annotated[int, Meta(ge=2, le=32)] = 2
    reversal: Annotated[int, Meta(ge=0)] = 40
    delay: Annotated[int, Meta(ge=0, le=100)] = 3
    best: Range = (0.7, 0.95)
    other: Range = (0.05, 0.3)
    inputs: ClassVar[int] = 1
    activation: ClassVar[str] = "choice"
    primary_metric: ClassVar[str] = "reward"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (low, high) in (("best", self.best), ("other", self.other)):
            if low > high:
                raise ValueError(f"{name} = [{low:g}, {high:g}]: allowed: two probabilities in ascending order")
        if self.other[1] >= self.best[0]:
            high, least = self.other[1], self.best[0]
            raise ValueError(f"other: it goes up to {high:g}; allowed: below {least:g}, the least of best")

    @property
    def outputs(self) -> int:
        """Number of arms."""
        return self.arms

    def split(self, seed: Integer) -> Split:
        """Make two infinite pools, each a key; two tasks are equal with a probability of one in billions."""
        train, test = jax.random.split(stream(run_key(seed), Purpose.SPLIT))
        return Split(train=train, test=test)

    def sample(self, key: PRNGKey, pool: PRNGKey, index: Integer) -> BanditTask:
        """Sample bandit number `index` of a pool; the key is unused."""
        place_key, best_key, other_key = jax.random.split(jax.random.fold_in(pool, index), 3)
        place = jax.random.randint(place_key, (), 0, self.arms)
        best = jax.random.uniform(best_key, (), minval=self.best[0], maxval=self.best[1])
        others = jax.random.uniform(other_key, (self.arms,), minval=self.other[0], maxval=self.other[1])
        return BanditTask(jnp.where(jnp.arange(self.arms) == place, best, others))

    def task_id(self, pool: PRNGKey, index: Integer) -> Integer:
        """The index: each task has probabilities of its own."""
        return index

    def stimulus(self, task: BanditTask, t: Integer, key: PRNGKey) -> Stimulus:
        """Constant input 1."""
        return Stimulus(input=jnp.ones(1), target=jnp.zeros(self.arms))

    def start(self, task: BanditTask) -> BanditState:
        """State before the first step, with an empty queue."""
        zero = jnp.zeros(())
        return BanditState(task.probabilities, jnp.zeros(self.delay), zero, zero, zero, zero)

    def sense(self, task: BanditTask, state: BanditState, stimulus: Stimulus) -> Stimulus:
        """The stimulus: nothing in it depends on the state."""
        return stimulus

    def react(self, task: BanditTask, state: BanditState, output: Float[Array, " arms"], key: PRNGKey) -> Reaction:
        """Draw the reward of a choice, hand out the reward that arrives, and rotate the arms at a reversal."""
        reward_key, rotation_key = jax.random.split(key)
        best = jnp.max(state.probabilities)
        chosen = jnp.sum(state.probabilities * output)
        drawn = jnp.where(jax.random.uniform(reward_key) < chosen, 1.0, 0.0)
        line = jnp.concatenate([state.queue, drawn[None]])
        after = BanditState(
            # Not a matrix product, whose precision is lower on accelerators than on CPUs.
            probabilities=jnp.sum(self._rotation(rotation_key) * state.probabilities[None], axis=1),
            queue=line[1:],
            steps=state.steps + 1,
            chosen=state.chosen + chosen,
            best=state.best + best,
            hits=state.hits + jnp.sum(jnp.where(state.probabilities >= best, output, 0.0)),
        )
        return Reaction(after, reward=line[0], loss=-chosen)

    def scores(self, task: BanditTask, state: BanditState) -> Metrics:
        """Mean reward probability of the choices, its distance from that of the best arm, and share of the best arm."""
        steps = jnp.maximum(state.steps, 1.0)
        return {
            "reward": state.chosen / steps,
            "regret": (state.best - state.chosen) / steps,
            "best_arm": state.hits / steps,
        }

    # --- The ideal observer

    def ideal_start(self, task: BanditTask) -> BanditBelief:
        """Belief before the first step: all rotations are equally likely."""
        return BanditBelief(jnp.full(self.arms, 1 / self.arms), jnp.zeros((self.delay, self.arms)))

    def ideal_choice(self, task: BanditTask, belief: BanditBelief) -> Float[Array, " arms"]:
        """Choose the arm with the largest expected reward, given the probabilities of the task and all past rewards.

        The belief about the step of the choice whose reward arrives next is carried on to the present step by the
        hazard of reversals. The choice is myopic: it ignores what a reward will tell. With two arms that is near the
        optimum, because the rewards of either tell about equally much.

        Returns:
            The choice, one-hot [arms].
        """
        rotation = self._later(belief.rotation, self.delay)
        expected = jnp.sum(rotation[:, None] * self._rotated(task), axis=0)
        largest = jnp.where(expected >= jnp.max(expected), 1.0, 0.0)
        earlier = jnp.sum(jnp.tri(self.arms, k=-1) * largest[None], axis=1)
        return jnp.where(earlier > 0, 0.0, largest)  # the first of equal arms

    def ideal_update(
        self, task: BanditTask, belief: BanditBelief, choice: Float[Array, " arms"], reward: Float[Array, ""]
    ) -> BanditBelief:
        """Update a belief by Bayes's rule.

        P(rotation | reward) ∝ P(reward | choice, rotation) · P(rotation), then one step of the hazard of reversals

        Args:
            task: the task, whose probabilities the observer knows up to their rotation.
            belief: belief before the step.
            choice: choice of the step, one-hot [arms].
            reward: reward that arrived at the step, for the choice `delay` steps before.
        """
        line = jnp.concatenate([belief.choices, choice[None]])
        probability = jnp.sum(self._rotated(task) * line[0][None], axis=1)
        # Before the first reward both line[0] and the reward are 0, so that every rotation has the likelihood 1.
        joint = belief.rotation * jnp.where(reward > 0.5, probability, 1 - probability)
        return BanditBelief(self._later(joint / jnp.sum(joint), 1), line[1:])

    def _rotation(self, key: PRNGKey) -> Float[Array, "arms arms"]:
        """Permutation matrix of the arms after a step: the identity unless there is a reversal."""
        arms = np.arange(self.arms)
        places = (arms[:, None] - arms[None]) % self.arms
        if not self.reversal:
            return jnp.asarray(places == 0, float)
        reversal_key, shift_key = jax.random.split(key)
        is_reversal = jax.random.uniform(reversal_key) < 1 / self.reversal
        shift = jnp.where(is_reversal, jax.random.randint(shift_key, (), 1, self.arms), 0)
        return (places == shift).astype(float)

    def _rotated(self, task: BanditTask) -> Float[Array, "rotations arms"]:
        """Reward probability of each arm under each rotation."""
        arms = np.arange(self.arms)
        return task.probabilities[(arms[None] - arms[:, None]) % self.arms]

    def _later(self, rotation: Float[Array, " arms"], steps: int) -> Float[Array, " arms"]:
        """Belief some steps later, nearer to equal chances: a reversal leads to all other rotations alike."""
        hazard = 1 / self.reversal if self.reversal else 0.0
        left = (1 - hazard * self.arms / (self.arms - 1)) ** steps
        return 1 / self.arms + left * (rotation - 1 / self.arms)
