import datetime
import re

import numpy as np
import pytest

from metarule.recordings import nwb, read_recordings, unused_fields

COLUMNS = {"inputs": "stimulus/presentation/odor", "activity": "acquisition/dff", "choices": "trials/choice"}
DATA = np.arange(10, dtype=np.int16).reshape(5, 2)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(nwb, "find_spec", lambda name: None)
    (tmp_path / "a.nwb").touch()
    for call in (lambda: read_recordings(str(tmp_path), COLUMNS), lambda: unused_fields(str(tmp_path), COLUMNS)):
        with pytest.raises(
            ValueError, match=r"a.nwb, pynwb is missing; install it with: pip install 'metarule\[nwb\]'"
        ):
            call()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    pynwb = pytest.importorskip("pynwb")
    now = datetime.datetime.now(datetime.UTC)
    file = pynwb.NWBFile(session_description="a", identifier="a", session_start_time=now)
    series = {"unit": "a", "rate": 1.0}
    file.add_acquisition(pynwb.TimeSeries(name="dff", data=DATA, conversion=0.5, offset=1.0, **series))
    file.add_stimulus(pynwb.TimeSeries(name="odor", data=np.arange(5.0), **series))
    file.add_stimulus(pynwb.TimeSeries(name="movie", data=np.zeros((2, 5, 3)), **series))
    module = file.create_processing_module("behavior", "a")
    module.add(pynwb.TimeSeries(name="speed", data=np.arange(4.0), **series))
    file.add_trial_column("choice", "a")
    file.add_trial_column("side", "a")
    file.add_trial_column("licks", "a", index=True)
    for trial in range(5):
        file.add_trial(
            start_time=float(trial), stop_time=trial + 1.0, choice=trial > 2, side="left", licks=[1.0] * trial
        )
    path = tmp_path_factory.mktemp("recordings") / "mouse.nwb"
    with pynwb.NWBHDF5IO(path, "w") as opened:
        opened.write(file)
    return path


def test_fields_are_read_in_their_physical_dimension(path):
    (animal,), _ = read_recordings(str(path), COLUMNS)
    assert animal.name == "mouse"
    np.testing.assert_array_equal(animal.inputs, np.arange(5.0)[:, None])
    np.testing.assert_array_equal(animal.activity, DATA * 0.5 + 1)
    np.testing.assert_array_equal(animal.choices, [0, 0, 0, 1, 1])


def test_columns_of_several_fields_are_joined(path):
    fields = ("acquisition/dff", "/intervals/trials/start_time")
    (animal,), _ = read_recordings(str(path), COLUMNS | {"inputs": fields})
    np.testing.assert_array_equal(animal.inputs, np.column_stack([DATA * 0.5 + 1, np.arange(5.0)]))


def test_unused_fields_are_named(path):
    assert unused_fields(str(path), COLUMNS) == (
        "processing/behavior/speed",
        "stimulus/presentation/movie",
        "trials/side",
        "trials/start_time",
        "trials/stop_time",
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {},
            "columns: a path for each array is missing; allowed: acquisition/dff, processing/behavior/speed, stimulus",
        ),
        (COLUMNS | {"animal": "a"}, "columns.animal: an .nwb holds one animal, which is named as the file; allowed: a"),
        (
            COLUMNS | {"choices": "trials/chioce"},
            "columns.choices = 'trials/chioce' is not in it; allowed: acquisition/",
        ),
        (COLUMNS | {"choices": "trials/licks"}, "columns.choices = 'trials/licks' is not in it"),
        (COLUMNS | {"choices": "trials/side"}, "array 'choices' holds object; allowed: real numbers"),
        (
            COLUMNS | {"choices": "processing/behavior/speed"},
            "array 'choices' has 4 steps, array 'inputs' has 5; allow",
        ),
        (
            COLUMNS | {"inputs": ("acquisition/dff", "processing/behavior/speed")},
            "columns.inputs: fields of shapes [(5, 2), (4, 1)]; allowed: one field, or columns of equal length",
        ),
        (
            COLUMNS | {"choices": ("trials/choice", "trials/choice")},
            "columns.choices: fields of shapes [(5,), (5,)]; allowed: one field, or columns of equal length",
        ),
        (
            {"inputs": "stimulus/presentation/movie", "activity": "stimulus/presentation/movie"},
            "array 'inputs' has 3 axes; allowed: [steps, inputs]; an .nwb holds one animal",
        ),
    ],
)
def test_fields_that_cannot_be_used_are_refused(columns, message, path):
    with pytest.raises(ValueError, match=f"^{re.escape(f'files: {path}, {message}')}"):
        read_recordings(str(path), columns)


def test_a_damaged_file_is_refused(path, tmp_path):
    (tmp_path / "a.nwb").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="a.nwb, .*truncated file"):
        read_recordings(str(tmp_path), COLUMNS)
