"""Gradient and Gauss–Newton matrix, against finite differences of a loop in NumPy."""

import types
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from recorded import INPUTS, LINEAR, REWARDED, SIGMOID, STEPS, TERMS, Values, learner_on, predictions, recording

from metarule import Polynomial, Recurrent, Trace
from metarule.kernels import kernels
from metarule.meta import curvature as module
from metarule.meta.curvature import network_of
from metarule.meta.fits import evaluate, start_point, unflatten
from metarule.meta.levenberg import Point
from metarule.recordings.likelihood import by_kind

KEY = jax.random.key(0)


def by_hand(arrays, values, output, kinds):
    """Number of observations, loss, gradient and Gauss–Newton matrix of each kind, by finite differences."""
    flat, restore = ravel_pytree(Values(*(values._replace(weights=None))))
    flat, own = np.asarray(flat), values.weights

    def predicted(flat):
        size = flat.size - own.size
        one = jax.tree.map(np.asarray, restore(jnp.asarray(flat[:size])))
        return predictions(arrays, one._replace(weights=flat[size:].reshape(own.shape)), output)

    point = np.concatenate([flat, own.reshape(-1)])
    here = predicted(point)
    shifted = [[predicted(point + sign * step) for sign in (1, -1)] for step in 1e-6 * np.eye(point.size)]
    for kind in kinds:
        observed = np.reshape(arrays[kind], here[kind].shape)
        is_observed = ~np.isnan(observed)
        value, wanted = here[kind][is_observed], observed[is_observed]
        jacobian = np.stack([(up[kind] - down[kind])[is_observed] / 2e-6 for up, down in shifted])
        if kind == "choices":
            loss, curvature = -np.log(np.where(wanted == 1, value, 1 - value)), 1 / (value * (1 - value))
            slope = np.where(wanted == 1, -1 / value, 1 / (1 - value))
        else:
            slope, curvature, loss = value - wanted, np.ones_like(value), (value - wanted) ** 2 / 2
        yield is_observed.sum(), loss.sum(), jacobian @ slope, jacobian * curvature @ jacobian.T


THETA = np.array([0.1, -0.05, 0.02, 0.3])
CHOOSING = recording(outputs=1, choices=True, activity=None)
READING = recording(choices=True, initial_weights=None)
WEIGHTS = np.random.default_rng(9).normal(size=(INPUTS, 2)) / 2


class Case(NamedTuple):
    """A recording, and values of what is fitted."""

    arrays: dict
    values: Values
    circuit: object = LINEAR
    fields: dict = types.MappingProxyType({})


CASES = {
    "activity and weights": Case(recording(), Values(THETA[:3], recording()["initial_weights"])),
    "sigmoid neurons": Case(recording(), Values(THETA[:3], WEIGHTS), SIGMOID, {"initial": "fitted"}),
    "choices": Case(CHOOSING, Values(THETA, CHOOSING["initial_weights"]), SIGMOID),
    "all": Case(
        READING | {"plastic": np.arange(STEPS) % 3 > 0},
        Values(THETA, WEIGHTS, np.asarray(0.2), np.array([0.7, -0.4]), np.asarray(1.5)),
        LINEAR,
        {"readout": "fitted", "reward": "centred", "reward_decay": "fitted", "initial": "fitted", "outputs": 2},
    ),
}


def point_of(values, is_fitted):
    shared, _ = ravel_pytree(values._replace(weights=None))
    own = values.weights.reshape(-1) if is_fitted else np.zeros(0)
    return Point(shared, jnp.asarray(own)[None])


def curvature_at(learner, point, animals=None, directions=None):
    animals = learner.tasks.split(0).train if animals is None else animals
    directions = jnp.eye(point.shared.size) if directions is None else directions
    return jax.jit(partial(evaluate, learner, animals))(directions, point)


@pytest.fixture(params=CASES)
def case(request, tmp_path, float64):
    case = CASES[request.param]
    terms = REWARDED if "rewards" in case.arrays else TERMS
    return case, learner_on(tmp_path, [case.arrays], terms, case.circuit, **case.fields)


def assert_equal_by_hand(case, learner):
    is_fitted = "initial" in case.fields
    found = curvature_at(learner, point_of(case.values, is_fitted))
    kinds = learner.tasks.fitted
    assert set(kinds) == {name for name in ("activity", "weights", "choices") if name in case.arrays}
    expected = by_hand(case.arrays, case.values, case.circuit.output, kinds)
    used = None if is_fitted else found.gradient.shape[-1]
    for kind, (count, loss, gradient, hessian) in enumerate(expected):
        one = jax.tree.map(lambda leaf, kind=kind: np.asarray(leaf[0, kind]), found)
        assert one.observations == count > 0
        np.testing.assert_allclose(one.loss, loss, rtol=1e-12)
        np.testing.assert_allclose(one.gradient, gradient[:used], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(one.hessian, hessian[:used, :used], rtol=1e-6, atol=1e-8)


def test_derivatives_equal_finite_differences(case):
    assert_equal_by_hand(*case)


@pytest.fixture
def everything(tmp_path, float64):
    case = CASES["all"]
    return case, learner_on(tmp_path, [case.arrays], REWARDED, case.circuit, **case.fields)


def test_derivatives_of_kernels_are_the_same(everything, caplog):
    with kernels("on"), caplog.at_level("INFO"):
        assert_equal_by_hand(*everything)
    assert "time loops are compiled to one operation each" in caplog.text


@pytest.mark.long
def test_derivatives_in_segments_are_the_same(everything, monkeypatch):
    monkeypatch.setattr(module, "_SEGMENT", 4 * (4 + 3 + 1 + 6) * 9)  # coefficients, readout, decay, initial weights
    lengths = []
    length = module._segment_length
    monkeypatch.setattr(module, "_segment_length", lambda *given: lengths.append(length(*given)) or lengths[-1])
    assert_equal_by_hand(*everything)
    assert lengths == [4]


HIDDEN = Recurrent(neurons=3, fixed=(0,), feedback="zero", output="identity")
TRACED = Polynomial(terms=("pre_trace*post", "e", "weight"), traces={"e": Trace(of="pre*post", decay=0.6)})


def recurrent_recording(steps, seed):
    """Activity of some neurons of both populations and recurrent weights, in two sessions."""
    draw = np.random.default_rng(seed)
    arrays = recording(outputs=4, steps=steps, seed=seed, weights=None, initial_weights=None)
    return arrays | {"weights_1": draw.normal(size=(steps, 3, 3)), "session": np.arange(steps) > 3}


@pytest.fixture
def recurrent(tmp_path, float64):
    animals = [recurrent_recording(7, 1), recurrent_recording(STEPS, 2)]
    options = {"neurons": (0, 2, 3, 4), "outputs": 2, "population": "all"}
    return animals, lambda some, name: learner_on(tmp_path / name, some, TRACED, HIDDEN, **options)


@partial(jax.jit, static_argnums=0)
def random_point(learner, animals):
    start = start_point(learner, learner.init_theta(KEY), animals)
    shared, own = (one + 0.1 * jax.random.normal(KEY, one.shape) for one in start)
    return Point(shared, own)


@pytest.mark.long
def test_derivatives_of_a_recurrent_network_in_sessions(recurrent):
    animals, learner_of = recurrent
    learner = learner_of(animals, "both")
    pool = learner.tasks.split(0).train
    row = list(pool.number).index(0)
    point, task = random_point(learner, pool), jax.tree.map(lambda leaf: jnp.asarray(leaf[row]), pool)
    own, size = np.asarray(point.own[row]), point.shared.size
    assert own.size == 4 * 3 + 4 * 2  # recurrent weights were recorded

    @jax.jit
    @jax.vmap
    def predicted(shift):
        theta, others = unflatten(learner, point.shared + shift[:size])
        weights = network_of(learner, theta, others, (), task)[1].weights
        restore = ravel_pytree(learner.tasks.own_unknowns(task, weights))[1]
        context, state = network_of(learner, theta, others, restore(own + shift[size:]), task)

        def step(state, t):
            after, response = learner.step(theta, context, state, learner.stimulus(context, t))
            return after, by_kind(learner.tasks.predict(context.task, state.weights, response))

        return jax.lax.scan(step, state, jnp.arange(learner.steps))[1]

    count = size + own.size
    shifts = 1e-6 * np.eye(count)
    outputs = jax.tree.map(np.asarray, predicted(np.concatenate([shifts, -shifts, np.zeros((1, count))])))
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[row], curvature_at(learner, point, pool))
    given = {"activity": animals[0]["activity"], "weights": animals[0]["weights_1"].reshape(7, -1)}
    for kind, name in enumerate(learner.tasks.fitted):
        is_observed = ~np.isnan(given[name])
        up, down, (here,) = np.split(outputs[name][:, :7], [count, 2 * count])
        jacobian, residual = ((up - down) / 2e-6)[:, is_observed], (here - given[name])[is_observed]
        assert found.observations[kind] == is_observed.sum()
        np.testing.assert_allclose(found.loss[kind], np.sum(residual**2) / 2, rtol=1e-12)
        np.testing.assert_allclose(found.gradient[kind], jacobian @ residual, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.hessian[kind], jacobian @ jacobian.T, rtol=1e-6, atol=1e-7)


@pytest.mark.long
def test_padding_changes_nothing(recurrent):
    animals, learner_of = recurrent
    both, alone = learner_of(animals, "both"), learner_of(animals[:1], "alone")
    pool = both.tasks.split(0).train
    row = list(pool.number).index(0)
    point = random_point(both, pool)
    assert pool.length[row] == 7 < both.steps
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[row], curvature_at(both, point, pool))
    single = jax.tree.map(
        lambda leaf: np.asarray(leaf)[0], curvature_at(alone, point._replace(own=point.own[row][None]))
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), found, single)
