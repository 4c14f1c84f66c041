"""A bandit of a few steps and a network that chooses, small enough to sum over all that may be chosen."""

import itertools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from metarule import InnerLoop, Lifetime
from metarule.types import CircuitStep, Reaction, Split, Stimulus, Synapse

STEPS = 4
# Pay of each arm, in the two tasks of a pool.
PAYS = np.array([[1.0, 0.2], [0.1, 0.7]])
INITIAL = np.array([0.3, -0.2, 0.5])


@dataclass(frozen=True)
class Arms:
    """Two arms, of which one is chosen, and a wager w: the reward is pay · w.

    Attributes:
        delay: 1 if a reward arrives in the step after its choice.
        graded: the loss of a step is w² in place of −reward, and the target of the output neurons is 0.
        fault: name of a fault of a member.
    """

    delay: int = 0
    graded: bool = False
    fault: str = ""
    inputs = 1
    outputs = 3

    def split(self, seed):
        return Split(jnp.asarray(PAYS, float), jnp.asarray(PAYS[:, ::-1], float))

    def sample(self, key, pool, index):
        return pool[index % 2]

    def stimulus(self, task, t, key):
        return Stimulus(jnp.ones(1), jnp.zeros(3))

    def start(self, task):
        steps = 0 if self.fault == "number" else jnp.zeros((), jnp.int32)
        return {"collected": jnp.zeros(()), "due": jnp.zeros(()), "steps": steps}

    def sense(self, task, state, stimulus):
        if self.fault == "blind":
            return stimulus._replace(input=jnp.where(state["steps"] == 2, jnp.nan, stimulus.input))
        return stimulus.input if self.fault == "unseen" else stimulus

    def react(self, task, state, output, key):
        pay = jnp.sum(task * output[:2]) * output[2]
        reward = state["due"] if self.delay else pay
        after = {"collected": state["collected"] + reward, "due": pay, "steps": state["steps"] + 1}
        loss, target = (output[2] ** 2, jnp.zeros(3)) if self.graded else (None, None)
        late = state["steps"] == 2
        match self.fault:
            case "state":
                after = after | {"due": jnp.zeros(2)}
            case "count":
                after = after | {"steps": jnp.zeros(())}
            case "vector":
                reward = reward[None]
            case "rewardless":
                reward = None
            case "word":
                reward = "much"
            case "tuple":
                return after, reward
            case "target":
                target = jnp.zeros(2)
            case "nan":
                reward = jnp.where(late, jnp.nan, reward)
            case "infinite":
                loss = jnp.where(late, jnp.inf, -reward)
            case "error":
                return state["missing"]
        return Reaction(after, reward, loss, target)

    @property
    def primary_metric(self):
        return "best" if self.fault == "primary" else "reward"

    def scores(self, task, state):
        if self.fault == "unscored":
            return {}
        return {"reward": state["collected"] / jnp.maximum(state["steps"], 1).astype(float)}


@dataclass(frozen=True)
class Chooser:
    """One input; two output neurons of which one fires by its probability, and one with a sigmoid.

    Without a key the response is its mean. The modulator is target − mean.
    """

    stochastic: bool = True

    def init(self, key, inputs, outputs):
        return (jnp.asarray(INITIAL, float)[None],), (), ()

    def step(self, weights, wiring, state, stimulus):
        potential = stimulus.input @ weights[0]
        probability = jax.nn.softmax(potential[:2])
        wager = jax.nn.sigmoid(potential[2:])
        choice, log_probability = probability, None
        if stimulus.key is not None and self.stochastic:
            first = jax.random.uniform(stimulus.key, (), potential.dtype) < probability[0]
            choice = jnp.where(jnp.stack([first, ~first]), 1.0, 0.0).astype(potential.dtype)
            log_probability = jnp.sum(choice * jax.nn.log_softmax(potential[:2]))
        mean, output = jnp.concatenate([probability, wager]), jnp.concatenate([choice, wager])
        reward = jnp.zeros((), potential.dtype) if stimulus.reward is None else stimulus.reward
        synapse = Synapse(
            stimulus.input, output, potential, weights[0], modulator=stimulus.target - mean, neuromodulator=reward
        )
        return CircuitStep(state, output, (synapse,), (), log_probability)


@dataclass(frozen=True)
class LearnedChooser(Chooser):
    """The same network, whose initial weights are meta-learned."""

    learns_initial = True

    def initial_values(self, weights, wiring):
        return {"weights": weights[0]}

    def with_initial_values(self, values, weights, wiring):
        return (values["weights"],), wiring


@dataclass(frozen=True)
class Rewarded:
    """Δw = θ₀·reward·(target − mean) + θ₁·reward"""

    def init(self, key):
        return jnp.array([0.5, 0.2])

    def delta(self, theta, memory, synapse):
        reward = synapse.neuromodulator * synapse.pre
        return theta[0] * reward * synapse.modulator + theta[1] * reward, memory


# No weight comes near the bound.
LOOP = InnerLoop(steps=STEPS, online_loss_weight=1.0, weight_bound=100.0)
LEARNER = Lifetime(rule=Rewarded(), circuit=Chooser(), tasks=Arms(), inner_loop=LOOP)


def with_tasks(**fields):
    """The learner with other settings of its tasks."""
    return Lifetime(
        rule=LEARNER.rule, circuit=LEARNER.circuit, tasks=replace(Arms(), **fields), inner_loop=LEARNER.inner_loop
    )


def expected_loss(theta):
    """Expected meta-loss over both tasks, a sum over all choices."""
    return np.mean([_expected(theta, pay) for pay in PAYS])


def expected_gradient(theta, step=1e-5):
    """Central finite differences of the expected meta-loss."""
    shifts = step * np.eye(len(theta))
    return np.array([expected_loss(theta + one) - expected_loss(theta - one) for one in shifts]) / (2 * step)


def _expected(theta, pay):
    total = 0.0
    for choices in itertools.product((0, 1), repeat=STEPS):
        weights, probability, loss = INITIAL.copy(), 1.0, 0.0
        for choice in choices:
            exponentials = np.exp(weights[:2])
            mean, wager = exponentials / exponentials.sum(), 1 / (1 + np.exp(-weights[2]))
            reward = pay[choice] * wager
            probability, loss = probability * mean[choice], loss - reward / STEPS
            error = np.append(np.eye(2)[choice] - mean, 0.0)
            weights = weights + reward * (theta[0] * error + theta[1])
        total += probability * loss
    return total
