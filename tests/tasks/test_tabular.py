import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from metarule.tasks import Tabular
from metarule.tasks.tabular import _SHAPES, _load

KEY = jax.random.key(0)
LABELS = load_digits().target


def many(family, pool, count=60):
    keys = jax.random.split(jax.random.key(1), count)
    return jax.vmap(lambda key, index: family.sample(key, pool, index))(keys, jnp.arange(count))


@pytest.mark.parametrize("seed", [0, 5])
def test_test_tasks_use_classes_that_no_training_task_has(seed):
    family = Tabular()
    seen = []
    for pool in family.split(seed):
        tasks = many(family, pool)
        seen.append(set(LABELS[np.asarray(tasks.presented)].flat) | set(LABELS[np.asarray(tasks.assessed)].flat))
    assert len(seen[0]) == 6
    assert len(seen[1]) == 4
    assert not seen[0] & seen[1]


def test_presented_and_assessed_examples_are_disjoint_and_distinct():
    tasks = many(Tabular(), Tabular().split(0).train)
    for presented, assessed in zip(np.asarray(tasks.presented), np.asarray(tasks.assessed)):
        assert len(set(presented)) == len(presented) == 3 * 34
        assert len(set(assessed)) == len(assessed) == 3 * 40
        assert not set(presented) & set(assessed)


def test_every_example_of_a_class_can_be_drawn_and_no_padding_is():
    family = Tabular(presented=100, assessed=74)
    tasks = many(family, jnp.arange(10), 120)
    drawn = set(np.asarray(tasks.presented).flat) | set(np.asarray(tasks.assessed).flat)
    assert drawn == set(range(1797))


def test_labels_are_one_to_one_with_classes_and_shuffled():
    family = Tabular()
    tasks = many(family, family.split(0).train)
    first = set()
    for rows, labels in zip(np.asarray(tasks.presented), np.asarray(tasks.presented_labels)):
        pairs = set(zip(LABELS[rows].tolist(), labels.tolist()))
        assert len(pairs) == 3
        first |= {digit for digit, label in pairs if label == 0}
    assert len(first) == 6


def test_stimulus_shows_the_image_and_its_label():
    family = Tabular()
    task = family.sample(KEY, family.split(0).train, 3)
    for time in (0, 50, 101, 102):
        stimulus = family.stimulus(task, time, KEY)
        np.testing.assert_allclose(stimulus.input, load_digits().data[task.presented[time % 102]] / 16)
        np.testing.assert_array_equal(stimulus.target, np.eye(3)[task.presented_labels[time % 102]])


def test_task_numbers_decide_the_classes_and_keys_the_examples():
    family, pool = Tabular(), Tabular().split(0).train
    one, two = (family.sample(jax.random.key(seed), pool, 4) for seed in (1, 2))
    classes = lambda task: [
        set(LABELS[np.asarray(task.assessed)[np.asarray(task.assessed_labels) == k]]) for k in range(3)
    ]
    assert classes(one) == classes(two)
    assert set(np.asarray(one.presented).tolist()) != set(np.asarray(two.presented).tolist())


def test_metrics_against_literal_numbers():
    output = jnp.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]])
    target = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    metrics = Tabular().metrics(output, target)
    assert metrics["accuracy"] == 0.5
    assert metrics["cross_entropy"] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2, rel=1e-5)


def test_stated_shapes_are_those_of_the_data():
    for name, (classes, smallest) in _SHAPES.items():
        assert (len(_load(name).sizes), _load(name).sizes.min()) == (classes, smallest)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ways": 5}, "test_classes is 4; allowed: at least ways"),
        ({"ways": 5, "test_classes": 6}, "leaves 4 of 10 classes"),
        ({"presented": 150, "assessed": 30}, "at most 174"),
    ],
)
def test_more_than_there_is_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Tabular(**arguments)
