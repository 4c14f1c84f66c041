import io
import os
import random
import re
import zipfile

import numpy as np
import pytest

from metarule.recordings import files as reader
from metarule.recordings import read_recordings, unused_fields
from metarule.recordings.shapes import Room

INPUTS, ACTIVITY = np.arange(12.0).reshape(4, 3), np.array([[1, np.nan], [2, 0], [np.nan, np.nan], [3, 1]])
CHOICES, REWARDS = np.array([0, 1, np.nan, 1]), np.array([1, np.nan, 0, 0.5])
WEIGHTS = np.arange(24.0).reshape(4, 3, 2)
WHOLE = {
    "inputs": INPUTS,
    "activity": ACTIVITY,
    "weights": WEIGHTS,
    "weights_2": WEIGHTS[:, :2] * 0.5,
    "choices": CHOICES,
    "rewards": REWARDS,
    "targets": INPUTS[:, :2] > 3,
    "plastic": np.array([1, 0, 0, 1], bool),
    "session": np.array([1, 1, 2, 2], np.int8),
    "initial_weights": WEIGHTS[0],
    "initial_weights_2": WEIGHTS[0, :2],
}
SMALL = {"inputs": INPUTS, "choices": CHOICES}


@pytest.fixture
def save(tmp_path):
    def write(name="a", **arrays):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return str(tmp_path / "*.npz")

    return write


def assert_equal(animal, **arrays):
    assert animal.weights.keys() == {0, 2}
    assert animal.initial_weights.keys() == {0, 2}
    found = animal._asdict() | {"weights_2": animal.weights[2], "initial_weights_2": animal.initial_weights[2]}
    found |= {"weights": animal.weights[0], "initial_weights": animal.initial_weights[0]}
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert found[name].dtype == (np.int64 if name == "session" else float)


def test_all_arrays_of_an_animal_are_read(save):
    (animal,), sha256 = read_recordings(save(**WHOLE))
    assert animal.name == "a"
    assert_equal(animal, **WHOLE)
    assert re.fullmatch("[0-9a-f]{64}", sha256)
    (small,), other = read_recordings(save(**SMALL))
    assert (small.activity, small.rewards, small.session, dict(small.weights)) == (None, None, None, {})
    assert other != sha256


def test_a_stacked_file_holds_several_animals_and_padding(save):
    stacked = {name: np.stack([values, values[::-1]]) for name, values in WHOLE.items() if "initial" not in name}
    stacked |= {"present": np.array([[1, 1, 1, 1], [1, 0, 1, 0]]), "initial_weights": WEIGHTS[:2]}
    stacked["inputs"][1, [1, 3]] = np.nan  # values of absent steps do not count
    stacked["choices"][1, 3] = 7
    (first, second), _ = read_recordings(save(**stacked, initial_weights_2=WEIGHTS[0, :2]))
    assert (first.name, second.name) == ("a[0]", "a[1]")
    assert_equal(first, **WHOLE)
    kept = {name: values[::-1][[0, 2]] for name, values in WHOLE.items() if "initial" not in name}
    assert_equal(second, **kept, initial_weights=WEIGHTS[1], initial_weights_2=WEIGHTS[0, :2])


@pytest.mark.parametrize("pattern", ["*.npz", "", "**/*.npz", "[ab].npz"])
def test_files_are_read_in_the_order_of_their_names(pattern, save, tmp_path):
    for name in ("b", "a", "._a"):
        save(name, **SMALL)
    (tmp_path / "notes.txt").touch()
    animals, _ = read_recordings(str(tmp_path / pattern))
    assert [animal.name for animal in animals] == ["a", "b"]


def test_a_path_is_a_pattern_that_may_look_like_a_wildcard(save, tmp_path):
    for name in ("a[1]", "a1"):
        save(name, **SMALL)
    (animal,), _ = read_recordings(str(tmp_path / "a[1].npz"))
    assert animal.name == "a[1]"


def test_files_that_have_not_changed_are_read_once(save):
    pattern = save(**SMALL)
    before = read_recordings(pattern)
    assert read_recordings(pattern) is before
    with pytest.raises(ValueError, match="read-only"):
        before[0][0].choices[0] = 1
    after = read_recordings(save(**SMALL | {"choices": 1 - CHOICES}))
    assert after[0][0].choices[0] == 1
    assert after[1] != before[1]
    assert read_recordings(save(**SMALL))[1] == before[1]


def many(name, value, *index):
    """Arrays of which one has a value in one place."""
    values = np.array(WHOLE[name], float)
    values[index] = value
    return WHOLE | {name: values}


def without(*names):
    return {name: values for name, values in WHOLE.items() if name not in names}


STACKED = {"inputs": np.ones((2, 4, 3)), "choices": np.ones((2, 4))}
NUMBER = "allowed: numbers up to 1e+18 in size"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            without("inputs", "weights_2"),
            "array 'inputs' is missing; found: activity, weights, choices, rewards, targe",
        ),
        (WHOLE | {"choice": CHOICES}, "array 'choice' is unknown; allowed: inputs, .*; did you mean 'choices'?"),
        (WHOLE | {"weights_0": WEIGHTS}, "array 'weights_0' is unknown; allowed: inputs, .*; did you mean 'weights'?"),
        ({"inputs": INPUTS}, "no array of observations; allowed: at least one of activity, weights, choices"),
        (without("choices"), "array 'rewards' has no meaning without array 'choices'; allowed: both, or no rewards"),
        (
            WHOLE | {"inputs": CHOICES},
            "array 'inputs' has 1 axis; allowed: [steps, inputs] or [animals, steps, inputs]",
        ),
        (WHOLE | {"choices": INPUTS}, "array 'choices' has 2 axes; allowed: [steps]"),
        (STACKED | {"choices": CHOICES}, "array 'choices' has 1 axis; allowed: [animals, steps]"),
        (
            WHOLE | {"choices": CHOICES[:3]},
            "array 'choices' has 3 steps, array 'inputs' has 4; allowed: the same number",
        ),
        (
            WHOLE | {"initial_weights_2": WEIGHTS[0]},
            "array 'initial_weights_2' has 3 pre neurons, array 'weights_2' has 2; allowed: the same number",
        ),
        (STACKED | {"choices": np.ones((3, 4))}, "array 'choices' has 3 animals, array 'inputs' has 2; allowed: the"),
        (
            WHOLE | {"targets": np.ones((4, 0))},
            "array 'targets' has shape (4, 0); allowed: at least one along each axis",
        ),
        (WHOLE | {"inputs": INPUTS * 1j}, "array 'inputs' holds complex128; allowed: real numbers"),
        (WHOLE | {"choices": np.array(list("abca"))}, "array 'choices' holds <U1; allowed: real numbers"),
        (WHOLE | {"choices": np.array([0, None, 1, 1])}, "array 'choices' holds object; allowed: real numbers"),
        (many("inputs", np.nan, 2, 1), f"array 'inputs[:, 1]': nan at step 2 (from 0); {NUMBER}"),
        (many("inputs", -np.inf, 2, 1), f"array 'inputs[:, 1]': -inf at step 2 (from 0); {NUMBER}"),
        (many("targets", np.nan, 0, 1), f"array 'targets[:, 1]': nan at step 0 (from 0); {NUMBER}"),
        (many("activity", np.inf, 3, 1), f"array 'activity[:, 1]': inf at step 3 (from 0); {NUMBER}, or NaN (not obs"),
        (many("weights_2", 1e19, 3, 1, 0), f"array 'weights_2[:, 1, 0]': 1e+19 at step 3 (from 0); {NUMBER}, or NaN"),
        (many("rewards", np.inf, 3), f"array 'rewards': inf at step 3 (from 0); {NUMBER}, or NaN (not observed)"),
        (many("initial_weights", np.nan, 2, 1), f"array 'initial_weights[2, 1]': nan; {NUMBER}"),
        (many("choices", 2, 1), "array 'choices': 2 at step 1 (from 0); allowed: 0, 1 or NaN (not observed)"),
        (many("plastic", 0.5, 1), "array 'plastic': 0.5 at step 1 (from 0); allowed: 0 or 1"),
        (WHOLE | {"present": CHOICES}, "array 'present': nan at step 2 (from 0); allowed: 0 or 1"),
        (many("session", 1.5, 3), "array 'session': 1.5 at step 3 (from 0); allowed: whole numbers of 32 bits"),
        (many("session", 2**31, 3), "array 'session': 2.14748e+09 at step 3 (from 0); allowed: whole numbers of 32"),
        (many("choices", 2, 3) | {"present": np.array([0, 1, 0, 1])}, "array 'choices': 2 at step 3 (from 0); allowed"),
        (WHOLE | {"present": np.zeros(4)}, "array 'present' is 0 at all steps; allowed: at least one step with 1"),
        (SMALL | {"choices": CHOICES * np.nan}, "nothing is observed; allowed: at least one number in activity, weig"),
        (STACKED | {"choices": np.eye(4)[:2] * 2}, "animal 'a[0]', array 'choices': 2 at step 0 (from 0); allowed: 0"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(arrays, message, save, tmp_path):
    pattern = save(**arrays)
    with pytest.raises(ValueError, match=re.escape(f"files: {tmp_path}/a.npz, {message}").replace(r"\.\*", ".*")):
        read_recordings(pattern)


LESS = {name: values[:, :2] if name == "inputs" else values for name, values in WHOLE.items()}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LESS, "array 'inputs': animal 'a' has 3 inputs and animal 'b' has 2; allowed: the same number in all animals"),
        (
            WHOLE | {"activity": INPUTS},
            "array 'activity': animal 'a' has 2 neurons and animal 'b' has 3; allowed: the same number in all animals",
        ),
        (
            without("rewards"),
            "array 'rewards': animal 'a' has it and animal 'b' does not; allowed: the same arrays in all animals",
        ),
    ],
)
def test_animals_that_differ_are_named(other, message, save):
    save("a", **WHOLE)
    with pytest.raises(ValueError, match=f"^files: {re.escape(message)}$"):
        read_recordings(save("b", **other))


def test_a_neuron_that_was_never_observed_is_named(save):
    unseen = WHOLE | {"activity": ACTIVITY * [1, np.nan]}
    with pytest.raises(
        ValueError, match=r"files: array 'activity\[:, 1\]': neuron 1 \(from 0\) was never .* tasks.neur"
    ):
        read_recordings(save("a", **unseen))
    assert len(read_recordings(save("b", **WHOLE))[0]) == 2  # another animal shows it


def test_two_animals_of_one_name_are_refused(save, tmp_path):
    (tmp_path / "inner").mkdir()
    save("a", **SMALL)
    save("inner/a", **SMALL)
    with pytest.raises(
        ValueError, match=f"files: {tmp_path}/inner/a.npz, animal 'a': {tmp_path}/a.npz has one of that"
    ):
        read_recordings(str(tmp_path / "**/*.npz"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.nwb", "no file matches"),
        ("*", "ending '.txt' is unknown; allowed: .npz, .csv, .tsv, .nwb"),
        ("a.*", "endings .csv, .npz; allowed: files of one ending"),
        ("**a", "Invalid pattern"),
        ("x" * 300, "File name too long"),
        ("\0", "no file matches"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused(pattern, message, save, tmp_path):
    save(**SMALL)
    for name in ("a.csv", "b.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"^files = '{re.escape(str(tmp_path / pattern))}': {message}"):
        read_recordings(str(tmp_path / pattern))
    with pytest.raises(ValueError, match="^files = '': no file matches"):
        read_recordings("")


def test_columns_that_are_no_arrays_are_refused(save):
    with pytest.raises(
        ValueError, match=r"columns.choice: there is no such array; allowed: .*; did you mean 'choices'"
    ):
        read_recordings(save(**SMALL), {"choice": "c"})
    with pytest.raises(ValueError, match="a.npz, columns.choices: .* arrays of .npz are found by their names"):
        read_recordings(save(**SMALL), {"choices": "c"})


def claim(shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "fortran_order": False, "descr": "|i1"})
    return header.getvalue()


@pytest.mark.parametrize(
    ("steps", "inputs", "message"),
    [
        (10**9, 1, "2000000000 numbers in its arrays; allowed: up to 134217728 in all files"),
        (10**7 + 1, 1, "10000001 steps; allowed: up to 10000000 in all files"),
        (10**5, 2000, "200100000 numbers in its arrays"),
    ],
)
def test_declared_sizes_are_checked_before_memory_is_taken(steps, inputs, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("inputs.npy", claim((steps, inputs)))
        archive.writestr("choices.npy", claim((steps,)))
    with pytest.raises(ValueError, match=f"a.npz, {message}"):
        read_recordings(str(tmp_path))


def test_sizes_are_limited_over_all_files(save, monkeypatch):
    monkeypatch.setattr(reader, "Room", lambda numbers=30, steps=100: Room(numbers, steps))
    read_recordings(save("a", **SMALL))
    with pytest.raises(ValueError, match="b.npz, 16 numbers in its arrays"):
        read_recordings(save("b", **SMALL))


def test_a_damaged_archive_is_read_or_refused(save, tmp_path):
    pattern = save(**SMALL)
    path = tmp_path / "a.npz"
    whole, numbers, refused = path.read_bytes(), random.Random(0), 0
    cuts = [whole[: numbers.randrange(len(whole))] for _ in range(100)]
    for _ in range(200):
        content, place = bytearray(whole), numbers.randrange(len(whole))
        content[place : place + 2] = numbers.randbytes(numbers.randrange(3))
        cuts.append(bytes(content))
    for number, content in enumerate(cuts):
        path.write_bytes(content)
        try:
            ((animal,), _) = read_recordings(pattern)
            assert number >= 100
            assert np.isfinite(animal.inputs).all()
        except ValueError as error:
            assert str(error).startswith(f"files: {path}, ")
            assert "\n" not in str(error)
            refused += 1
    assert 150 < refused < 300


def test_a_file_that_is_no_archive_or_no_file_is_refused(tmp_path):
    (tmp_path / "a.npz").write_text("no archive")
    with pytest.raises(ValueError, match="a.npz, it cannot be read: BadZipFile: File is not a zip file"):
        read_recordings(str(tmp_path))
    (tmp_path / "a.npz").unlink()
    os.mkfifo(tmp_path / "a.npz")
    for read in (read_recordings, unused_fields):
        with pytest.raises(ValueError, match=f"^files: {tmp_path}/a.npz, this is no file$"):
            read(str(tmp_path / "a.npz"))


def test_all_arrays_of_an_archive_are_used(save, tmp_path):
    save(**SMALL)
    assert unused_fields(str(tmp_path / "a.npz")) == ()
