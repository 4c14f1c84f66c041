from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from scipy.optimize import linprog

from metarule.tasks import Points
from metarule.tasks.points import SHAPES

KEY = jax.random.key(0)


@partial(jax.jit, static_argnames="family")
def draw(family, key, pool, index):
    return family.sample(key, pool, index)


def is_separable(points, labels):
    """Check whether s·(w·x + b) ≥ 1 has a solution."""
    signs = 2 * np.asarray(labels) - 1
    rows = np.hstack([np.asarray(points), np.ones((len(points), 1))])
    program = linprog(np.zeros(3), A_ub=-signs[:, None] * rows, b_ub=-np.ones(len(rows)), bounds=(None, None))
    return program.status == 0


@pytest.mark.parametrize("shape", SHAPES["all"])
def test_shapes_have_the_stated_separability(shape):
    family = Points(shapes=(shape,), train_examples=150, test_examples=50)
    pool = family.split(0).train
    for index in range(6):
        task = draw(family, jax.random.key(index), pool, index)
        points = np.concatenate([task.train_examples, task.test_examples])
        labels = np.concatenate([task.train_labels, task.test_labels])
        assert is_separable(points, labels) == (shape in SHAPES["separable"])


@pytest.mark.parametrize("shape", SHAPES["all"])
def test_classes_never_overlap(shape):
    """The nearest of two thousand points is of the same class."""
    family = Points(shapes=(shape,), train_examples=1000, test_examples=1)
    task = draw(family, KEY, family.split(1).test, 3)
    points, labels = np.asarray(task.train_examples), np.asarray(task.train_labels)
    distances = ((points[:, None] - points[None]) ** 2).sum(-1) + 1e9 * np.eye(len(points))
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.995


def test_the_best_accuracy_on_gaussians_is_nine_tenths():
    """That of Fisher's linear discriminant, which is optimal for normal clouds of one covariance."""
    assert "gaussians" not in SHAPES["all"]
    family = Points(shapes=("gaussians",), train_examples=2000, test_examples=1)
    task = draw(family, KEY, family.split(0).train, 3)
    points, labels = np.asarray(task.train_examples, float), np.asarray(task.train_labels)
    clouds = [points[labels == label] for label in (0, 1)]
    middle, difference = (
        sum(cloud.mean(axis=0) for cloud in clouds) / 2,
        clouds[1].mean(axis=0) - clouds[0].mean(axis=0),
    )
    direction = np.linalg.solve(sum(np.cov(cloud.T) for cloud in clouds), difference)
    accuracy = (((points - middle) @ direction > 0) == labels).mean()
    assert abs(accuracy - 0.9) < 0.015  # three standard errors


def test_points_are_in_rounds_of_one_of_each_class():
    family = Points(train_examples=20)
    task = draw(family, KEY, family.split(0).train, 0)
    pairs = np.asarray(task.train_labels).reshape(20, 2)
    np.testing.assert_array_equal(pairs.sum(axis=1), 1)
    assert 0 < pairs[:, 0].sum() < 20
    assert np.asarray(task.test_labels).sum() == 50


def test_indices_decide_the_shape_and_keys_the_points():
    family = Points(shapes=("linear",))
    pool = family.split(0).train
    one, two = (draw(family, jax.random.key(seed), pool, 4) for seed in (1, 2))
    assert not np.allclose(one.train_examples, two.train_examples)
    both = (
        np.concatenate([one.train_examples, two.train_examples]),
        np.concatenate([one.train_labels, two.train_labels]),
    )
    assert is_separable(*both)
    other = draw(family, jax.random.key(1), pool, 5)
    assert not is_separable(
        np.concatenate([one.train_examples, other.train_examples]),
        np.concatenate([one.train_labels, other.train_labels]),
    )


def test_pools_and_seeds_share_no_task():
    family = Points()
    tasks = [
        tuple(np.asarray(draw(family, KEY, pool, index).train_examples).ravel()[:4].tolist())
        for seed in (0, 1)
        for pool in family.split(seed)
        for index in range(20)
    ]
    assert len(set(tasks)) == len(tasks)


def test_every_shape_and_either_labelling_is_drawn():
    family = Points()
    tasks = jax.vmap(lambda index: draw(family, KEY, family.split(0).train, index))(jnp.arange(64))
    assert len({points.tobytes() for points in np.asarray(tasks.train_examples)}) == 64
    linear = Points(shapes=("blobs",), train_examples=1)
    first = [draw(linear, KEY, linear.split(0).train, index) for index in range(20)]
    sides = {int(task.train_labels[0]) for task in first}
    assert sides == {0, 1}


def test_label_noise_changes_that_share_of_the_training_labels_alone():
    family = Points(train_examples=2000)
    pool = family.split(0).train
    right, noisy = (draw(each, KEY, pool, 2) for each in (family, replace(family, label_noise=0.2)))
    wrong = np.asarray(right.train_labels != noisy.train_labels)
    assert abs(wrong.mean() - 0.2) < 0.02  # three standard errors
    np.testing.assert_array_equal(right.train_examples, noisy.train_examples)
    np.testing.assert_array_equal(right.test_labels, noisy.test_labels)


def test_stimuli_repeat_after_a_pass():
    family = Points(train_examples=3)
    task = draw(family, KEY, family.split(0).train, 2)
    for t in (0, 5, 6, 13):
        stimulus = family.stimulus(task, t, KEY)
        np.testing.assert_array_equal(stimulus.input, task.train_examples[t % 6])
        assert int(stimulus.target[0]) == int(task.train_labels[t % 6])


def test_metrics_against_literal_numbers():
    metrics = Points().metrics(jnp.array([[0.9], [0.4], [0.6]]), jnp.array([[1.0], [1.0], [0.0]]))
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["cross_entropy"] == pytest.approx(-(np.log(0.9) + 2 * np.log(0.4)) / 3, rel=1e-5)


def test_an_empty_list_of_shapes_is_refused():
    with pytest.raises(ValueError, match="shapes = ..; allowed: "):
        Points(shapes=())
