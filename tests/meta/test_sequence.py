"""Gradient descent starts from the best θ of a search."""

import jax
import numpy as np
import pytest
from quadratic import OPTIMUM, SCALE, Quadratic
from small import EXPERIMENT

from metarule import CMAES, Auto, Genetic, Gradient, Remat, Reverse, Sequence
from metarule.meta import advance, begin, list_phases, train
from metarule.meta.loop import enter
from metarule.meta.phases import lifetimes_of, phase_at, resolved, total_steps

KEY = jax.random.key(0)
LEARNER = Quadratic()
SEQUENCE = Sequence(
    first=Genetic(steps=6, population=8, batch_size=4, validation=8, spread=0.05),
    then=Gradient(steps=40, batch_size=8, learning_rate=0.03),
)


@pytest.fixture(scope="module")
def trained():
    return jax.jit(lambda: train(LEARNER, SEQUENCE, (), KEY))()


def test_its_first_part_is_the_search_alone(trained):
    theta, infos = jax.jit(lambda: train(LEARNER, SEQUENCE.first, (), KEY))()
    np.testing.assert_allclose(trained[1].theta[5], theta, rtol=1e-5)
    np.testing.assert_allclose(trained[1].loss[:6], infos.loss, rtol=1e-5)


def test_its_second_part_begins_at_the_best_of_the_first(trained):
    theta, infos = trained
    assert np.linalg.norm(np.asarray(infos.theta[6] - infos.theta[5]) / SCALE) < 2 * 0.03
    assert np.linalg.norm((theta - OPTIMUM) / SCALE) < 0.3 * np.linalg.norm((infos.theta[5] - OPTIMUM) / SCALE)


def test_observables_of_the_other_part_are_nan(trained):
    observed = trained[1].observed
    assert set(observed) == {*Genetic.OBSERVES, *Gradient.OBSERVES}
    assert np.isnan(observed["gradient_norm"]).tolist() == [True] * 6 + [False] * 40
    assert np.isnan(observed["spread"]).tolist() == [False] * 6 + [True] * 40


def test_calls_of_any_length_give_the_same_result(trained):
    plan = list_phases(SEQUENCE, LEARNER)
    state, step, before = begin(LEARNER, SEQUENCE, (), KEY), 0, plan[0]
    np.testing.assert_array_equal(before.optimizer.theta(state), np.zeros(3))
    for count in (4, 2, 1, 39):
        phase = phase_at(plan, step)
        if phase.optimizer is not before.optimizer:
            state = enter(before, phase, (), state, KEY)
        assert step + count <= phase.end
        state, _ = advance(phase, (), state, KEY, count, 39)
        step, before = step + count, phase
        np.testing.assert_allclose(phase.optimizer.theta(state), trained[1].theta[step - 1], rtol=1e-4, atol=1e-6)


def test_its_lifetimes_are_those_of_its_parts():
    assert total_steps(SEQUENCE) == 46
    assert lifetimes_of(SEQUENCE, 6) == lifetimes_of(SEQUENCE.first)
    assert lifetimes_of(SEQUENCE) == lifetimes_of(SEQUENCE.first) + 40 * 8


def test_the_estimator_of_its_second_part_is_chosen():
    sequence, reason = resolved(Sequence(first=CMAES(), then=Gradient(estimator=Auto())), EXPERIMENT.lifetime)
    assert sequence.then.estimator == Reverse(scan=Remat())
    assert "reverse" in reason


def test_its_second_part_may_have_a_curriculum():
    sequence = Sequence(first=CMAES(steps=3), then=Gradient(steps=4, curriculum=(0.5, 1.0)))
    plan = list_phases(sequence, EXPERIMENT.lifetime)
    assert [(phase.learner.steps, phase.begin, phase.end) for phase in plan] == [(20, 0, 3), (10, 3, 5), (20, 3, 7)]
