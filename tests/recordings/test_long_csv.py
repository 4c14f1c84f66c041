import re

import numpy as np
import pytest

from metarule.recordings import long_csv, read_recordings, unused_fields
from metarule.recordings.shapes import Room

MAP = {"animal": ("mouse",), "inputs": ("left", "right"), "choices": ("choice",)}
HEADER = "mouse,left,right,choice,note\n"


@pytest.fixture
def write(tmp_path):
    def save(text, name="a.csv"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return save


@pytest.mark.parametrize(("separator", "name"), [(",", "a.csv"), (";", "a.csv"), ("\t", "a.tsv")])
def test_columns_with_the_names_of_arrays_are_found(separator, name, write):
    text = (
        "\ufeffactivity_10,animal,inputs_1,activity_2,inputs_0,choices,rewards,session,present,plastic,note\n"
        "1,tom,4,,3,1,NA,1,1,True,x\n"
        "9,ada,9,9,9,0,1,7,true,0,x\n"
        "\n"
        "2,tom,6,nan,5,n/a,2.5,1,0,FALSE,x\n"
        "3, tom,8,7e-1,7,0,,2,1,FALSE,x\n"
    )
    (tom, ada), _ = read_recordings(write(text.replace(",", separator), name))
    assert (tom.name, ada.name) == ("tom", "ada")
    np.testing.assert_array_equal(tom.inputs, [[3, 4], [7, 8]])
    np.testing.assert_array_equal(tom.activity, [[np.nan, 1], [0.7, 3]])
    np.testing.assert_array_equal(tom.choices, [1, 0])
    np.testing.assert_array_equal(tom.rewards, [np.nan, np.nan])
    np.testing.assert_array_equal(tom.session, [1, 2])
    np.testing.assert_array_equal(tom.plastic, [1, 0])
    np.testing.assert_array_equal(ada.inputs, [[9, 9]])
    assert tom.targets is None


def test_a_map_names_the_columns(write):
    path = write(HEADER + "tom,1,2,1,x\nada,3,4,0,x\n")
    (tom, ada), _ = read_recordings(path, MAP)
    np.testing.assert_array_equal([tom.inputs, ada.inputs], [[[1, 2]], [[3, 4]]])
    assert unused_fields(str(path), MAP) == ("note",)
    (single,), _ = read_recordings(path, {"inputs": "right", "choices": "choice"})
    assert single.name == "a"
    np.testing.assert_array_equal(single.inputs, [[2], [4]])
    (single,), _ = read_recordings(write("x_1,x_0,choice\n1,2,1\n"), {"inputs": "x", "choices": "choice"})
    np.testing.assert_array_equal(single.inputs, [[2, 1]])


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "it has no header"),
        (HEADER, MAP, "it has no rows"),
        (HEADER + "tom,1,2\n", MAP, "line 2: it has 3 cells; the header has 5"),
        (HEADER + "tom,1,2,1,x\n,1,2,1,x\n", MAP, "line 3, column 'mouse': the name of the animal is missing"),
        (HEADER + "tom,1,2,left,x\n", MAP, "line 2, column 'choice': 'left'; allowed: numbers, true, false, and NA or"),
        (HEADER + "tom,1,2,2,x\n", MAP, "array 'choices': 2 at line 2; allowed: 0, 1 or NaN (not observed)"),
        (HEADER + "tom,1,,1,x\n", MAP, "array 'inputs[:, 1]': nan at line 2; allowed: numbers up to 1e+18 in size"),
        (HEADER + "tom,1,1,1,x\nada,1,1,3,x\n", MAP, "animal 'ada', array 'choices': 3 at line 3; allowed: 0, 1 or"),
        (
            HEADER,
            MAP | {"choices": "chioce"},
            "columns.choices = 'chioce' is not in it; allowed: mouse, left, right, ch",
        ),
        (HEADER, MAP | {"choices": ("left", "choice")}, "array 'choices' has 2 axes; allowed: [steps]"),
        (HEADER, {"choices": "choice"}, "array 'inputs' is missing; found: choices"),
        (HEADER, {}, "array 'inputs' is missing; found: none"),
        (HEADER, MAP | {"weights": "left"}, "column 'left': weights are not read from tables; allowed: .npz or .nwb"),
        ("inputs,weights_0\n", {}, "column 'weights_0': weights are not read from tables; allowed: .npz or .nwb"),
        ("inputs,choices,choices\n", {}, "two columns have the name 'choices'"),
        (HEADER + '"' + "x" * 200_000, MAP, "it cannot be read: Error: field larger than field limit (131072)"),
        ('inputs,choices,"a\nb"\n1,x,2', {}, "line 3, column 'choices': 'x'; allowed: numbers, true, false, and NA"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(text, columns, message, write):
    path = write(text)
    with pytest.raises(ValueError, match=f"^{re.escape(f'files: {path}, {message}')}") as error:
        read_recordings(path, columns)
    assert "\n" not in str(error.value)


def test_text_of_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"inputs,choices\n1,\xff\n")
    with pytest.raises(ValueError, match="a.csv, it cannot be read: UnicodeDecodeError"):
        read_recordings(str(tmp_path))


@pytest.mark.parametrize("room", [Room(numbers=5), Room(steps=1)])
def test_a_long_table_is_refused_before_it_is_read_to_its_end(room, tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "tom,1,2,1,x\ntom,1,2,1,x\nnot a row\n")
    with pytest.raises(ValueError, match="line 3: too long; allowed: up to 134217728 numbers and 10000000 rows"):
        long_csv.read_long(tmp_path / "a.csv", MAP, room)
