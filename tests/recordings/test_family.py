import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import recording, save

from metarule.recordings import Recordings
from metarule.recordings.tasks import Readout, SharedUnknowns
from metarule.testing import check_tasks
from metarule.types import CircuitStep

KEY = jax.random.key(0)
ACTIVE = [recording(steps=steps, seed=steps, weights=None) for steps in (23, 30, 27)]
CHOOSING = [recording(outputs=1, steps=20, seed=seed, choices=True, activity=None, weights=None) for seed in range(3)]
SESSIONS = [animal | {"session": np.arange(20) // 7, "plastic": np.arange(20) % 2} for animal in CHOOSING]
HIDDEN = recording(weights=None, initial_weights=None) | {"weights_1": np.ones((9, 4, 2))}


def family(folder, animals, **fields):
    return Recordings(**{"files": save(folder, animals)} | fields)


CONTRACTS = {
    "activity, unequal lengths": (ACTIVE, {"outputs": 5, "neurons": (3, 1)}),
    "weights, all are both": ([recording(steps=20, activity=None)] * 2, {"initial": "zero", "test_animals": 0}),
    "choices, sessions": (SESSIONS, {"reward": "centred"}),
    "readout": (CHOOSING, {"outputs": 1, "readout": "fitted", "reward": "centred", "reward_decay": "fitted"}),
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_recordings_satisfy_the_contract(tmp_path, name):
    animals, fields = CONTRACTS[name]
    check_tasks(family(tmp_path, animals, **fields))


def pool_of(tasks):
    return jax.tree.map(np.asarray, jax.jit(tasks.split)(0).train)


def at(tasks, pool, animal, t):
    """Stimulus of an animal, by its number."""
    row = list(pool.number).index(animal)
    sampled = jax.jit(tasks.sample)(KEY, jax.tree.map(jnp.asarray, pool), row)
    return jax.tree.map(np.asarray, jax.jit(tasks.stimulus)(sampled, t, KEY))


def test_a_stimulus_is_what_was_recorded(tmp_path):
    arrays = [animal | {"weights": np.full((20, 3, 1), 0.5)} for animal in SESSIONS]
    tasks = family(tmp_path, arrays, test_animals=0)
    pool = pool_of(tasks)
    for t in (0, 6, 7, 19):
        one = at(tasks, pool, 1, t)
        np.testing.assert_allclose(one.input, arrays[1]["inputs"][t], rtol=1e-6)
        np.testing.assert_array_equal(one.observed.choice, arrays[1]["choices"][t])
        np.testing.assert_array_equal(one.target, np.nan_to_num(arrays[1]["choices"][t], nan=0.5))
        np.testing.assert_array_equal(one.observed.weights[0], 0.5)
        np.testing.assert_array_equal(one.reward, np.nan_to_num(arrays[1]["rewards"][t]))
        assert (one.plasticity, one.restart) == (t % 2, t == 7)
        assert one.observed.activity is None


def test_nothing_is_observed_or_changes_after_a_recording(tmp_path):
    animals = [animal | {"session": np.arange(len(animal["inputs"])) // 29} for animal in ACTIVE]
    tasks = family(tmp_path, animals, test_animals=0)
    pool = pool_of(tasks)
    assert tasks.longest == 30
    for animal, t in ((0, 23), (0, 29), (1, 30), (1, 99)):
        one = at(tasks, pool, animal, t)
        assert np.all(np.isnan(one.observed.activity))
        assert one.plasticity == one.restart == 0


def test_animals_are_held_out_by_share_or_number(tmp_path):
    for test_animals, count in ((0.2, 1), (0.9, 2), (2, 2), (0, 0)):
        tasks = family(tmp_path, ACTIVE, test_animals=test_animals)
        train, test = jax.jit(tasks.split)(3)
        assert tasks.held_out == count
        assert len(test.number) == (count or 3)
        assert set(map(int, [*train.number, *test.number])) == {0, 1, 2}
    assert family(tmp_path / "single", ACTIVE[:1]).held_out == 0


def test_an_animal_has_its_number_as_id(tmp_path):
    tasks = family(tmp_path, ACTIVE)
    pool = tasks.split(1).train
    numbers = [int(tasks.task_id(pool, index)) for index in range(4)]
    assert numbers == [*map(int, pool.number)] * 2
    assert [int(tasks.sample(KEY, pool, index).number) for index in range(4)] == numbers


OUTPUTS = [
    ([recording(outputs=3)], {}, 3),
    ([recording(outputs=3, activity=None)], {}, 3),
    (CHOOSING, {}, 1),
    ([recording(outputs=3) | {"targets": np.zeros((9, 2))}], {"population": "all"}, 2),
    ([HIDDEN], {"neurons": (0, 4), "outputs": 2, "population": "all"}, 2),
    ([HIDDEN], {"population": "all"}, 2),
]


@pytest.mark.parametrize(("animals", "fields", "outputs"), OUTPUTS)
def test_the_number_of_output_neurons_is_that_of_the_recordings(tmp_path, animals, fields, outputs):
    assert family(tmp_path, animals, **fields).outputs == outputs


INITIAL = {
    "known": ("auto", recording(weights=None), "given"),
    "recorded": ("known", recording(initial_weights=None, weights=np.full((9, 3, 2), 0.7)), "recorded"),
    "not recorded": ("auto", recording(weights=None, initial_weights=None), "fitted"),
    "recorded in part": ("auto", recording(initial_weights=None), "fitted"),
    "to be fitted": ("fitted", recording(), "fitted"),
    "zero": ("zero", recording(), "zero"),
}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_weights_are_known_zero_or_fitted(tmp_path, name):
    initial, arrays, expected = INITIAL[name]
    tasks = family(tmp_path, [arrays], initial=initial)
    task = jax.tree.map(lambda leaf: leaf[0], tasks.split(0).train)
    drawn = (jnp.full((3, 2), 9.0),)
    weights = tasks.initial_weights(task, drawn)
    start = {"given": arrays.get("initial_weights"), "recorded": 0.7}.get(expected, 0.0)
    np.testing.assert_allclose(weights[0], np.broadcast_to(start, (3, 2)), rtol=1e-6)
    own = tasks.own_unknowns(task, weights)
    assert [one is not None for one in own] == {"fitted": [True], "given": [False]}.get(expected, [])
    fitted = tasks.assume(task, tasks.shared_unknowns(), (jnp.full((3, 2), 2.0),) if expected == "fitted" else own)
    expected = np.full((3, 2), 2.0) if expected == "fitted" else weights[0]
    np.testing.assert_array_equal(tasks.initial_weights(fitted, drawn)[0], expected)


def test_initial_weights_of_a_deep_network_are_fitted_from_those_drawn(tmp_path):
    tasks = family(tmp_path, [HIDDEN], outputs=2)
    task = jax.tree.map(lambda leaf: leaf[0], tasks.split(0).train)
    drawn = jnp.full((3, 4), 9.0), jnp.full((4, 2), 9.0)
    first, second = tasks.initial_weights(task, drawn)
    np.testing.assert_array_equal(first, 9.0)
    np.testing.assert_array_equal(second, 1.0)
    first, second = tasks.own_unknowns(task, (first, second))
    assert first is not None and second is None


RESPONSE = CircuitStep((), jnp.array([0.25, 3.0]), (), (jnp.array([5.0, 6.0, 7.0]), jnp.array([0.25, 3.0])))


@pytest.mark.parametrize(
    ("fields", "activity"),
    [
        ({}, [0.25, 3]),
        ({"outputs": 2, "neurons": (1, 0)}, [3, 0.25]),
        ({"outputs": 2, "neurons": (1, 3), "population": "all"}, [6, 0.25]),
    ],
)
def test_the_recorded_neurons_are_predicted(tmp_path, fields, activity):
    tasks = family(tmp_path, [recording()], **fields)
    task = jax.tree.map(lambda leaf: leaf[0], tasks.split(0).train)
    found = tasks.predict(task, (jnp.ones((3, 2)),), RESPONSE)
    np.testing.assert_array_equal(found.activity, activity)
    np.testing.assert_array_equal(found.weights[0], 1.0)
    assert found.choice is None


def test_weights_of_later_projections_are_predicted(tmp_path):
    tasks = family(tmp_path, [HIDDEN], outputs=2)
    task = jax.tree.map(lambda leaf: leaf[0], tasks.split(0).train)
    found = tasks.predict(task, (jnp.zeros((3, 4)), jnp.ones((4, 2))), RESPONSE)
    assert found.weights[0] is None
    np.testing.assert_array_equal(found.weights[1], 1.0)


def test_a_fitted_readout_predicts_choices(tmp_path):
    animals = [recording(choices=True)]
    tasks = family(tmp_path, animals, outputs=2, readout="fitted", initial="zero")
    task = jax.tree.map(lambda leaf: leaf[0], tasks.split(0).train)
    at_first = tasks.predict(task, (jnp.zeros((3, 2)),), RESPONSE).choice
    np.testing.assert_allclose(at_first, 1 / (1 + math.exp(-3.25)), rtol=1e-6)
    shared = SharedUnknowns(Readout(jnp.asarray(0.5), jnp.array([2.0, -1.0])), None)
    p = tasks.predict(tasks.assume(task, shared, ()), (jnp.zeros((3, 2)),), RESPONSE).choice
    np.testing.assert_allclose(p, 1 / (1 + math.exp(-(0.5 + 0.5 - 3))), rtol=1e-6)


def test_deviations_are_those_of_all_observations(tmp_path):
    tasks = family(tmp_path, [animal | {"weights": np.ones((len(animal["inputs"]), 3, 2))} for animal in ACTIVE])
    everything = np.concatenate([animal["activity"].reshape(-1) for animal in ACTIVE])
    assert tasks.deviations == {"activity": pytest.approx(np.nanstd(everything)), "weights": 1.0}


def test_the_last_tenth_of_a_recording_is_evaluated(tmp_path):
    tasks = family(tmp_path, ACTIVE, test_animals=0)
    pool = tasks.split(0).train
    row = list(map(int, pool.number)).index(0)
    examples = jax.jit(tasks.examples)(tasks.sample(KEY, pool, row))
    np.testing.assert_allclose(examples.input, ACTIVE[0]["inputs"][20:], rtol=1e-6)
    np.testing.assert_allclose(examples.target, ACTIVE[0]["activity"][20:], rtol=1e-6)
    observed = np.nan_to_num(ACTIVE[0]["activity"][20:])
    assert tasks.metrics(jnp.asarray(observed, float), examples.target)["explained"] == 1
    assert tasks.metrics(jnp.full((3, 2), 99.0), examples.target)["explained"] == 0


def test_explained_deviance_of_choices(tmp_path):
    tasks = family(tmp_path, CHOOSING)
    target = jnp.array([[1.0], [0.0], [np.nan]])
    found = tasks.metrics(jnp.array([[0.8], [0.5], [0.1]]), target)["explained"]
    np.testing.assert_allclose(found, 1 - (math.log(0.8) + math.log(0.5)) / math.log(0.25), rtol=1e-6)
    assert tasks.loss.activation == "sigmoid"
    np.testing.assert_allclose(tasks.loss(jnp.array([0.8]), target[0]), -math.log(0.8), rtol=1e-6)
