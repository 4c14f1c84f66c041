"""Fits of simulated recordings."""

from functools import partial

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from recorded import LINEAR, as_arrays, learner_on

from metarule import Boolean, Feedforward, Lifetime, Polynomial, Simulation, SimulationExperiment, Trace, simulate
from metarule.meta import GaussNewton, train
from metarule.tasks.subsets import split_off

KEY, RATE = jax.random.key(0), 0.05
TERMS = ("pre*post", "post^2*weight", "weight", "pre")
TRUTH = np.array([RATE, -RATE, 0.0, 0.0])
OJA = SimulationExperiment(
    rule=Polynomial(terms=("oja",), initial={"oja": RATE}),
    circuit=LINEAR,
    simulation=Simulation(animals=4, steps=12, inputs=3, outputs=2),
)


@pytest.fixture(scope="module")
def animals():
    return [as_arrays(animal) for animal in simulate(OJA)]


def without(name, animals):
    return [{key: one for key, one in animal.items() if key != name} for animal in animals]


@partial(jax.jit, static_argnums=(0, 1))
def trained(learner, optimizer):
    return train(learner, optimizer, learner.tasks.split(0).train, KEY)


def test_coefficients_of_oja_are_found(tmp_path, animals, float64):
    theta, infos = trained(learner_on(tmp_path, animals, TERMS), GaussNewton(steps=15))
    np.testing.assert_allclose(theta, TRUTH, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(infos.lifetimes, 4)
    assert np.all(np.diff(infos.loss) <= 0)


def test_coefficients_are_found_with_initial_weights_that_are_not_known(tmp_path, animals, float64):
    learner = learner_on(tmp_path, without("initial_weights", animals), TERMS)
    theta, _ = trained(learner, GaussNewton(steps=15))
    np.testing.assert_allclose(theta, TRUTH, rtol=0, atol=1e-8)


@pytest.mark.long
def test_a_finished_fit_stays_bit_for_bit(tmp_path, animals, float64):
    learner, optimizer = learner_on(tmp_path, animals, TERMS), GaussNewton()
    pool = learner.tasks.split(0).train
    step = jax.jit(partial(optimizer.step, learner))
    state = jax.jit(partial(optimizer.init, learner))(pool, learner.init_theta(KEY), KEY)
    for _ in range(15):
        state, _ = step(pool, state, KEY)
    after, info = step(pool, state, KEY)
    assert state.fit.done and not info.rejected
    jax.tree.map(np.testing.assert_array_equal, state, after)


@pytest.mark.long
def test_animals_that_are_not_selected_do_not_count(tmp_path, animals, float64):
    spoilt = [*animals[:3], animals[3] | {"activity": -animals[3]["activity"]}]
    learner, optimizer = learner_on(tmp_path, spoilt, TERMS), GaussNewton(steps=15)
    pool = learner.tasks.split(0).train
    others, last = split_off(learner.tasks, pool, 0)
    number = int(learner.tasks.task_id(pool, last.numbers[0]))
    order = [*animals[:number], spoilt[3], *animals[number:3]]
    learner = learner_on(tmp_path / "in order", order, TERMS)
    pool = learner.tasks.split(0).train
    theta, infos = jax.jit(partial(train, learner, optimizer))(others._replace(pool=pool), KEY)
    np.testing.assert_allclose(theta, TRUTH, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(infos.lifetimes, 3)


@pytest.mark.long
def test_ridge_shrinks(tmp_path, animals, float64):
    noisy = [animal | {"activity": animal["activity"] + 0.1 * np.sin(100 * animal["activity"])} for animal in animals]
    learner = learner_on(tmp_path, noisy, TERMS)
    norms = [np.linalg.norm(trained(learner, GaussNewton(steps=15, ridge=ridge))[0]) for ridge in (0.0, 1e4)]
    assert norms[0] > norms[1] > 0


def test_penalties_are_in_the_parameter_scale_and_not_on_decays(tmp_path, animals):
    rule = Polynomial(terms=("pre*post", "e"), traces={"e": Trace(of="pre*post")}, hebbian_scale=0.5)
    learner = learner_on(tmp_path, without("initial_weights", animals), rule)
    penalty = GaussNewton(ridge=2.0, l1=3.0).settings(learner).penalty
    restore = ravel_pytree(learner.init_theta(KEY))[1]
    for values, expected in zip(penalty, (2 / 0.5**2, 3 / 0.5, 0.5), strict=True):
        np.testing.assert_array_equal(restore(values)["coefficients"], expected)
    assert not np.any([restore(values)["logit_decay"] for values in penalty[:2]])


def test_tasks_that_are_no_recordings_are_refused():
    learner = Lifetime(rule=Polynomial(terms=("delta",)), circuit=Feedforward(hidden=()), tasks=Boolean())
    message = "optimizer.kind = 'gauss_newton': it fits recordings, and tasks are Boolean"
    with pytest.raises(ValueError, match=f"^{message}$"):
        GaussNewton().check(learner)


def test_too_many_unknowns_are_refused(tmp_path):
    arrays = {"inputs": np.ones((2, 60)), "activity": np.ones((2, 50))}
    learner = learner_on(tmp_path, [arrays], TERMS)
    message = (
        "optimizer.kind = 'gauss_newton': 4 shared unknowns and 3000 of each animal; allowed: 3000 in all, or kind = "
        "gradient with known initial weights"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        GaussNewton().check(learner)
    GaussNewton().check(learner_on(tmp_path, [arrays | {"initial_weights": np.ones((60, 50))}], TERMS))


def test_the_decay_of_the_average_reward_and_the_readout_are_found(tmp_path, float64):
    draw = np.random.default_rng(1)
    shape = 6, 40
    inputs, rewards = draw.normal(size=(*shape, 2)), draw.integers(0, 2, shape).astype(float)
    weights, choices, average = np.zeros((6, 2, 1)), np.zeros(shape), np.zeros(6)
    activity = np.zeros((*shape, 1))
    for t in range(shape[1]):
        activity[:, t] = np.einsum("ai,aio->ao", inputs[:, t], weights)
        choices[:, t] = draw.random(6) < 1 / (1 + np.exp(-0.5 - 2 * activity[:, t, 0]))
        third = rewards[:, t] - average
        average += 0.3 * third
        weights += 0.2 * third[:, None, None] * inputs[:, t, :, None]
    recorded = zip(inputs, activity, choices, rewards)
    names = "inputs", "activity", "choices", "rewards"
    learner = learner_on(
        tmp_path,
        [dict(zip(names, one)) for one in recorded],
        ("pre*neuromodulator", "weight"),
        **{"readout": "fitted", "reward": "centred", "reward_decay": "fitted", "initial": "zero"},
    )
    pool, optimizer = learner.tasks.split(0).train, GaussNewton(steps=15)
    step = jax.jit(partial(optimizer.step, learner))
    state = jax.jit(partial(optimizer.init, learner))(pool, learner.init_theta(KEY), KEY)
    for _ in range(15):
        state, _ = step(pool, state, KEY)
    coefficients, (offset, gain, logit) = np.split(np.asarray(state.fit.point.shared), [2])
    np.testing.assert_allclose(coefficients, [0.2, 0.0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), 0.7, rtol=1e-7)
    likelihood = lambda offset, gain: np.sum(np.log1p(np.exp(-(2 * choices - 1) * (offset + gain * activity[..., 0]))))
    best = likelihood(offset, gain)
    for one, other in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert likelihood(offset + one, gain + other) > best
