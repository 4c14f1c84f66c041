import io
import random
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from metarule.tasks import tables
from metarule.tasks.tables import read_table

HEADER = "width,height,name,species\n"
BOTH = ("width", "height")


def npz(**arrays):
    opened = io.BytesIO()
    np.savez(opened, **arrays)
    return opened.getvalue()


def parquet(**columns):
    opened = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), opened)
    return opened.getvalue()


def read_csv(text, features=BOTH, label="species"):
    return read_table(text.encode(), ".csv", label, features)


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_delimiters_quotes_and_byte_order_marks_are_recognised(separator, start):
    rows = [["width", "height", "species"], ["1", "2.5", '"b, c; d"'], [], ["-3e1", " 4", "a"]]
    table = read_csv(start + "\r\n".join(map(separator.join, rows)), ())
    np.testing.assert_array_equal(table.features, [[1, 2.5], [-30, 4]])
    assert table.labels.tolist() == [1, 0]
    assert table.classes == ("a", "b, c; d")


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["10", "9", "9.0", "10"], ("9", "10"), [1, 0, 0, 1]),
        (["10", "9", "x", "10"], ("10", "9", "x"), [0, 1, 2, 0]),
        (["nan", "b", "b", "b"], ("b", "nan"), [1, 0, 0, 0]),
        (["9007199254740993", "9007199254740992"], ("9007199254740992", "9007199254740993"), [1, 0]),
    ],
)
def test_labels_are_integers_if_all_of_them_are(labels, classes, numbers):
    rows = [f"{number},0,,{label}" for number, label in enumerate(labels)]
    table = read_csv(HEADER + "\n".join(rows))
    assert (table.classes, table.labels.tolist()) == (classes, numbers)


def test_named_columns_are_read_in_their_order():
    table = read_csv(HEADER + "1,2,n,a\n3,4,n,b\n", ("height", "width"))
    np.testing.assert_array_equal(table.features, [[2, 1], [4, 3]])


def test_columns_of_arrays_have_names():
    x, w, y = np.arange(6.0).reshape(2, 3), np.array([7, 8], np.int8), np.array(["b", "a"])
    content = npz(x=x, w=w, y=y, other=np.zeros(5))
    for features, expected in (
        (("x",), x),
        (("w", "x[2]"), np.stack([w, x[:, 2]], axis=1)),
        (("x[1]", "w"), np.stack([x[:, 1], w], axis=1)),
    ):
        table = read_table(content, ".npz", "y", features)
        np.testing.assert_array_equal(table.features, expected)
        assert (table.classes, table.labels.tolist()) == (("a", "b"), [1, 0])


@pytest.mark.parametrize(
    "labels", [["b", "a", "b"], pyarrow.array(["b", "a", "b"]).dictionary_encode(), [7, 3, 7], [7.0, 3.0, 7.0]]
)
def test_parquet_is_read(labels):
    content = parquet(width=[1, 2, 3], species=labels, height=[0.5, 1.5, 2.5], name=["x", "y", "z"])
    table = read_table(content, ".parquet", "species", BOTH)
    np.testing.assert_array_equal(table.features, [[1, 0.5], [2, 1.5], [3, 2.5]])
    assert table.labels.tolist() == [1, 0, 1]
    assert table.classes in (("a", "b"), ("3", "7"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "it has no rows"),
        ("5.1,3.5,n,a\n", r"line 1 must name the columns; it holds 5.1, 3.5, n, a"),
        ("1,2,3\n4,5,6\n", r"line 1 must name the columns; it holds 1, 2, 3"),
        ("width,width,species\n", "two columns have the name 'width'"),
        (",height,species\n", "column 1 has no name"),
        (HEADER + "1,2,n,a\n1,2,a\n", "line 3: it has 3 cells; the header has 4"),
        (HEADER + "1,2,n,a\n\n1,,n,a\n", "line 4, column 'height': the value is missing"),
        (HEADER + "1,2,n,a\n1,NA,n,a\n", "line 3, column 'height': the value is missing"),
        (HEADER + "1,2,n,a\nNaN,2,n,a\n", "line 3, column 'width': the value is missing"),
        (HEADER + "1,2,n,a\n1,-inf,n,a\n", r"line 3, column 'height': -inf; allowed: numbers up to 1e\+300 in size"),
        (HEADER + "1,2,n,a\n1,3,n,\n", "line 3, column 'species': the value is missing"),
        (HEADER + "1,x,n,a\n", "column 'height' holds text, 'x' in line 2; name .*: features = \\[\"width\"\\]"),
        (HEADER + "1,2,n,a\n1,3,n,a\n", "label = 'species': all rows have 'a'; at least two classes"),
        (
            HEADER + "1,2,n,1\n1,3,n,2.5\n",
            "label = 'species': it holds real numbers, such as 2.5; allowed: text or int",
        ),
        (HEADER + "1,2,n,a\n1,2,n,b\n", "all features are constant"),
        (HEADER + '1,2,"n' + "x" * 200_000, "it cannot be read: Error: field larger than"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read_csv(text)


@pytest.mark.parametrize(
    ("label", "features", "message"),
    [
        ("speces", (), "label = 'speces': there is no column 'speces'; allowed: width, .*; did you mean 'species'\\?"),
        ("species", ("widht",), "features = \\['widht'\\]: there is no column 'widht'; .*; did you mean 'width'"),
        (
            "species",
            ("species",),
            "features = \\['species'\\]: there is no column 'species'; allowed: width, height, na",
        ),
        ("species", ("width", "width"), "features = \\['width', 'width'\\]: allowed: each column once"),
        ("species", (), "column 'name' holds text, 'n' in line 2; .*: features = \\[\"width\", \"height\"\\]"),
    ],
)
def test_columns_that_are_not_there_or_hold_text_are_refused(label, features, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read_csv(HEADER + "1,2,n,a\n", features, label)


X, Y = np.arange(8.0).reshape(4, 2), np.array([1, 2, 1, 2])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "species": np.array(["a", None, 1, 2], object)}, "array 'species' holds pickled objects"),
        ({"x": X, "species": Y[:3]}, "arrays of unequal length: 'species' has 3 rows, 'x' has 4"),
        ({"x": np.zeros((4, 2, 2)), "species": Y}, r"array 'x' has shape \(4, 2, 2\); allowed: one or two axes"),
        ({"x": X, "n": np.array(list("abcd")), "species": Y}, "column 'n' holds text; .*: features = \\[\"x\"\\]"),
        ({"x": X, "species": Y * 1j}, "array 'species' holds complex128; allowed: text or integers"),
        ({"x": X, "species": Y + 0.5}, "label = 'species': it holds real numbers, such as 1.5"),
        ({"x": X * np.nan, "species": Y}, r"row 0 \(from 0\), column 'x\[0\]': the value is missing"),
        ({"species": Y}, "it has no column but the label"),
        ({"x": X[:0], "species": Y[:0]}, "it has no rows"),
        (
            {"x": X, "species": X},
            r"label = 'species': there is no column 'species'; allowed: x\[0\], x\[1\], species\[",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(arrays, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read_table(npz(**arrays), ".npz", "species")


def test_declared_sizes_are_checked_before_memory_is_taken(monkeypatch):
    header, opened = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (10**12, 2), "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(opened, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(
        ValueError, match=r"array 'x' has shape \(1000000000000, 2\) of float64; allowed: up to 1073741824"
    ):
        read_table(opened.getvalue(), ".npz", "species")
    monkeypatch.setattr(tables, "LARGEST", 40)
    for content, ending in (
        (parquet(width=[1, 2], height=[1, 2], species=[1, 2]), ".parquet"),
        (b"width,height,depth,species\n1,2,3,4\n1,2,3,5\n", ".csv"),
    ):
        with pytest.raises(ValueError, match="2 rows of 3 numbers; allowed: up to 5 numbers"):
            read_table(content, ending, "species")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"width": [1, None], "species": ["a", "b"]}, r"row 1 \(from 0\), column 'width': the value is missing"),
        ({"width": [1, 2], "species": ["a", None]}, r"row 1 \(from 0\), column 'species': the value is missing"),
        (
            {"width": [1, 2], "n": ["a", "b"], "species": [1, 2]},
            "column 'n' holds text; .*: features = \\[\"width\"\\]",
        ),
        ({"width": [[1], [2]], "species": [1, 2]}, "column 'width' holds list<.*; features are numbers"),
        ({"width": [1, 2]}, "label = 'species': there is no column 'species'; allowed: width"),
    ],
)
def test_parquet_that_cannot_be_used_is_refused(columns, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read_table(parquet(**columns), ".parquet", "species")


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (".csv", "not text of UTF-8"),
        (".npz", "it cannot be read: BadZipFile"),
        (".parquet", "it cannot be read: ArrowInvalid: Parquet magic bytes not found"),
        (".txt", "unknown ending '.txt'; allowed: .csv, .tsv, .npz, .parquet"),
    ],
)
def test_garbage_is_refused(ending, message):
    with pytest.raises(ValueError, match=message):
        read_table(bytes(range(256)), ending, "species")


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet"])
def test_a_damaged_file_is_read_or_refused(ending):
    text = "x,z,species\n" + "".join(f"{row},{row * row},{'abc'[row % 3]}\n" for row in range(9))
    whole = {
        ".csv": text.encode(),
        ".npz": npz(x=X, species=Y),
        ".parquet": parquet(x=[*range(9)], z=[*range(9)], species=list("abc" * 3)),
    }[ending]
    numbers, refused = random.Random(0), 0
    for _ in range(300):
        content, place = bytearray(whole), numbers.randrange(len(whole))
        content[place : place + numbers.randrange(3)] = numbers.randbytes(numbers.randrange(3))
        try:
            table = read_table(bytes(content), ending, "species")
            assert np.isfinite(table.features).all()
            assert len(table.labels) == len(table.features)
        except ValueError:
            refused += 1
    assert 30 < refused < 300


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pyarrow is missing; install it with: pip install 'metarule\[data\]'"):
        read_table(b"PAR1", ".parquet", "species")
