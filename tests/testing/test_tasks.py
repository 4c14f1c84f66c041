"""The battery catches a broken task family, and names the check that failed."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import pytest
from closed import Arms

from metarule.testing import TASK_CHECKS, check_tasks
from metarule.types import Split, Stimulus


@dataclasses.dataclass(frozen=True)
class Signs:
    """A family of thirty lines: report the sign of one of three inputs; each task has its own input."""

    inputs: int = 3
    outputs: int = 1

    def split(self, seed):
        order = jax.random.permutation(jax.random.key(seed), 3)
        return Split(order[:2], order[2:])

    def sample(self, key, pool, index):
        return pool[index % pool.size]

    def stimulus(self, task, t, key):
        pattern = jax.random.rademacher(key, (3,), float)
        return Stimulus(pattern, (pattern[task, None] + 1) / 2)

    def examples(self, task):
        patterns = jnp.array([[1.0, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, -1]], float)
        return Stimulus(patterns, (patterns[:, task, None] + 1) / 2)

    def loss(self, output, target):
        return jnp.sum((output - target) ** 2)

    def metrics(self, output, target):
        return {"accuracy": jnp.mean(((output > 0.5) == (target > 0.5)).astype(output.dtype))}


class NoLoss:
    inputs, outputs = 3, 1
    split = sample = stimulus = examples = metrics = None


class AnotherInput(Signs):
    def examples(self, task):
        return Stimulus(jnp.ones((4, 2)), jnp.ones((4, 1)))


class LossOfAnotherShape(Signs):
    def loss(self, output, target):
        return (output - target) ** 2


class MetricBeyondOne(Signs):
    def metrics(self, output, target):
        return {"accuracy": 1 + jnp.mean(output)}


class HalfPrecision(Signs):
    def stimulus(self, task, t, key):
        return Stimulus(*(leaf.astype(jnp.float16) for leaf in super().stimulus(task, t, key)[:2]))


class SeedOfPython(Signs):
    def split(self, seed):
        return super().split(int(seed))


class SharedTask(Signs):
    def split(self, seed):
        return Split(jnp.arange(3), jnp.arange(2))


class IdsByCall(Signs):
    calls = itertools.count()

    def task_id(self, pool, index):
        return index + next(self.calls)


class NeverTheSame(Signs):
    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


class NaNAtStepFive(Signs):
    def stimulus(self, task, t, key):
        good = super().stimulus(task, t, key)
        return good._replace(input=jnp.where(t == 5, jnp.nan, good.input))


class NoScores:
    inputs, outputs = 1, 2
    split = sample = stimulus = start = sense = react = None


class WiderThanSaid(Arms):
    def sense(self, task, state, stimulus):
        return stimulus._replace(input=jnp.ones(2))


class RewardIsNaNAtStepTwo(Arms):
    def react(self, task, state, output, key):
        reaction = super().react(task, state, output, key)
        return reaction._replace(reward=jnp.where(state["steps"] == 2, jnp.nan, reaction.reward))


class ScoreIsNaNAtFirst(Arms):
    def scores(self, task, state):
        return {"reward": state["collected"] / state["steps"].astype(float)}


BROKEN = {
    NoLoss: "protocol",
    AnotherInput: "shapes",
    LossOfAnotherShape: "shapes",
    MetricBeyondOne: "metrics",
    HalfPrecision: "dtypes",
    SeedOfPython: "pools",
    SharedTask: "held out",
    IdsByCall: "incidentals",
    NeverTheSame: "one trace",
    NaNAtStepFive: "steps",
    WiderThanSaid: "shapes",
    RewardIsNaNAtStepTwo: "reactions",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_family_fails_the_check_that_it_breaks(broken):
    with pytest.raises(AssertionError, match=f"{broken.__name__} fails '{BROKEN[broken]}'"):
        check_tasks(broken(), checks=(BROKEN[broken],))


def test_every_check_catches_something():
    assert set(BROKEN.values()) == set(TASK_CHECKS)


def test_a_closed_loop_without_scores_is_named():
    with pytest.raises(AssertionError, match="it has no scores"):
        check_tasks(NoScores(), checks=("protocol",))


def test_a_score_of_the_first_state_is_finite():
    with pytest.raises(AssertionError, match="ScoreIsNaNAtFirst fails 'reactions'"):
        check_tasks(ScoreIsNaNAtFirst())


@pytest.mark.parametrize("family", [Signs(), Arms(), Arms(delay=1, graded=True)], ids=["open", "closed", "delayed"])
def test_a_sound_family_passes(family):
    check_tasks(family)
