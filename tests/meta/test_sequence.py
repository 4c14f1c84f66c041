"""A search hands its best θ to gradient descent."""

import jax
import numpy as np
import pytest
from quadratic import OPTIMUM, UNITS, Quadratic

from metarule import CMAES, Auto, Genetic, Gradient, Remat, Reverse, Sequence
from metarule.meta import advance, begin, phase_at, train
from metarule.prng import Purpose, stream

KEY = jax.random.key(0)
LIFE = Quadratic()
SEQUENCE = Sequence(
    first=Genetic(steps=6, population=8, batch_size=4, validation=8, spread=0.05),
    then=Gradient(steps=40, batch_size=8, learning_rate=0.03),
)


@pytest.fixture(scope="module")
def trained():
    return jax.jit(lambda: train(LIFE, SEQUENCE, (), KEY))()


def test_its_first_part_is_the_search_alone(trained):
    theta, seen = jax.jit(lambda: train(LIFE, SEQUENCE.first, (), KEY))()
    np.testing.assert_allclose(trained[1].theta[5], theta, rtol=1e-5)
    np.testing.assert_allclose(trained[1].loss[:6], seen.loss, rtol=1e-5)


def test_its_second_part_goes_on_from_the_best_of_the_first(trained):
    theta, seen = trained
    assert np.linalg.norm(np.asarray(seen.theta[6] - seen.theta[5]) / UNITS) < 2 * 0.03
    assert np.linalg.norm((theta - OPTIMUM) / UNITS) < 0.3 * np.linalg.norm((seen.theta[5] - OPTIMUM) / UNITS)


def test_what_a_part_does_not_see_is_not_a_number(trained):
    observed = trained[1].observed
    assert set(observed) == {*Genetic.OBSERVES, *Gradient.OBSERVES}
    assert np.isnan(observed["gradient_norm"]).tolist() == [True] * 6 + [False] * 40
    assert np.isnan(observed["spread"]).tolist() == [False] * 6 + [True] * 40


def test_calls_of_any_length_come_to_the_same(trained):
    state, step = begin(LIFE, SEQUENCE, (), KEY), 0
    np.testing.assert_array_equal(SEQUENCE.theta(state), np.zeros(3))
    for count in (4, 2, 1, 39):
        phase = phase_at(LIFE, SEQUENCE, step)
        assert step + count <= phase.end
        state, _ = advance(phase.learner, phase.optimizer, (), state, KEY, count, 39)
        step += count
        np.testing.assert_allclose(SEQUENCE.theta(state), trained[1].theta[step - 1], rtol=1e-4, atol=1e-6)


def test_a_step_is_of_the_part_that_is_due(trained):
    step = jax.jit(lambda state: SEQUENCE.step(LIFE, (), state, stream(KEY, Purpose.META_STEPS)))
    state = begin(LIFE, SEQUENCE, (), KEY)
    for number in range(8):
        state, info = step(state)
        np.testing.assert_allclose(info.theta, trained[1].theta[number], rtol=1e-4, atol=1e-6)


def test_it_costs_what_its_parts_cost():
    assert SEQUENCE.steps == 46
    assert SEQUENCE.spent(6) == SEQUENCE.first.lifetimes
    assert SEQUENCE.lifetimes == SEQUENCE.first.lifetimes + 40 * 8


def test_what_its_second_part_leaves_open_is_decided():
    decided, reason = Sequence(first=CMAES(), then=Gradient(estimator=Auto())).decided(long_life())
    assert decided.then.estimator == Reverse(scan=Remat())
    assert "reverse" in reason


def long_life():
    from small import EXPERIMENT

    return EXPERIMENT.lifetime


def test_a_curriculum_is_of_its_second_part():
    sequence = Sequence(first=CMAES(steps=3), then=Gradient(steps=4, curriculum=(0.5, 1.0)))
    phases = sequence.phases(long_life())
    assert [(phase.learner.steps, phase.end) for phase in phases] == [(20, 3), (10, 5), (20, 7)]
