"""Estimators of windows refuse initial weights that are meta-learned, which only the first window depends on."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from closed import LEARNER, LOOP, Arms, LearnedChooser, Rewarded

from metarule import Auto, Evolution, Experiment, Forward, Gradient, Lifetime, Persistent, Reverse, Truncated
from metarule.analysis.structure_search.masked import MaskedLearner
from metarule.estimators.base import check_estimator

KEY = jax.random.key(0)
PARTS = {"rule": Rewarded(), "circuit": LearnedChooser(), "tasks": Arms(), "inner_loop": LOOP}
LEARNED = Lifetime(**PARTS)
MESSAGE = r"^optimizer.estimator.kind = '{}': initial weights are learned; allowed: reverse, forward, evolution, auto$"


@dataclass(frozen=True)
class Windows:
    """A user's own estimator of windows."""

    window: int = 2

    def init(self, learner, theta, key):
        return ()

    def estimate(self, learner, theta, task, state, key): ...


OWN = [(Truncated(window=2), "truncated"), (Persistent(window=2), "persistent"), (Windows(), "Windows")]


@pytest.mark.parametrize(("estimator", "kind"), OWN, ids=[kind for _, kind in OWN])
def test_windows_are_refused_in_one_line(estimator, kind):
    for learner in (LEARNED, MaskedLearner(LEARNED, jnp.ones(2, bool))):
        with pytest.raises(ValueError, match=MESSAGE.format(kind)):
            check_estimator(estimator, learner)
    with pytest.raises(ValueError, match=MESSAGE.format(kind)):
        Experiment(optimizer=Gradient(estimator=estimator), **PARTS)
    check_estimator(estimator, LEARNER)


@pytest.mark.parametrize("estimator", [Truncated(window=2), Persistent(window=2)], ids=["truncated", "persistent"])
def test_they_are_refused_in_python_before_anything_is_computed(estimator):
    theta = jax.eval_shape(LEARNED.init_theta, KEY)
    with pytest.raises(ValueError, match="initial weights are learned"):
        jax.eval_shape(lambda theta: estimator.init(LEARNED, theta, KEY), theta)


@pytest.mark.parametrize("estimator", [Reverse(), Forward(), Evolution(), Auto()], ids=lambda one: type(one).__name__)
def test_estimators_of_whole_lifetimes_are_allowed_and_see_initial_weights(estimator):
    check_estimator(estimator, LEARNED)
    assert Experiment(optimizer=Gradient(estimator=estimator), **PARTS).lifetime == LEARNED

    @jax.jit
    def gradient():
        theta, task = LEARNED.init_theta(KEY), LEARNED.tasks.sample(KEY, LEARNED.tasks.split(0).train, 0)
        return estimator.estimate(LEARNED, theta, task, estimator.init(LEARNED, theta, KEY), KEY)[0].gradient

    assert jnp.all(gradient()["initial"]["weights"] != 0)
