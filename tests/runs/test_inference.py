import math
import signal

import numpy as np
import pytest
from scipy.stats import kstest, norm

from metarule.config.toml import ConfigError
from metarule.runs.inference import _recall, _residuals, score_of
from metarule.runs.stopping import Stopped, StopRequest


def never():
    raise AssertionError("it was computed again")


def test_a_part_is_computed_once(tmp_path):
    folder = tmp_path / "inference" / "60"
    first = _recall(folder, StopRequest(), 60)("part", lambda: {"a": np.arange(3), "b": 0.1, "c": np.zeros((2, 0))})
    again = _recall(folder, StopRequest(), 60)("part", never)
    assert list(first) == list(again) == ["a", "b", "c"]
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)
        assert again[name].dtype == value.dtype
    assert [file.name for file in folder.iterdir()] == ["part.npz"]


def test_a_stop_is_answered_before_a_part_is_computed(tmp_path):
    stop = StopRequest()
    recall = _recall(tmp_path, stop, 60)
    recall("first", lambda: {"a": np.arange(3)})
    stop.ask(signal.SIGINT)
    assert list(recall("first", never)) == ["a"]
    with pytest.raises(Stopped, match="stopped after meta-step 60"):
        recall("second", never)
    assert [file.name for file in tmp_path.iterdir()] == ["first.npz"]


def test_a_part_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(AssertionError):
        _recall(tmp_path, StopRequest(), 60)("part", never)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_a_damaged_part_is_refused(content, tmp_path):
    (tmp_path / "part.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="part.npz: damaged: .*; remove it, and resume") as caught:
        _recall(tmp_path, StopRequest(), 60)("part", never)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("r2", "deviance", "score"),
    [
        ({"activity": 0.9, "weights": 0.5}, 0.4, ("R² activity", 0.9)),
        ({"weights": 0.5}, 0.4, ("deviance explained", 0.4)),
        ({"weights": 0.5}, None, ("R² weights", 0.5)),
        ({}, None, ("R² weights", None)),
    ],
)
def test_the_score_is_that_of_what_was_recorded(r2, deviance, score):
    assert score_of({"r2": r2, "deviance_explained": deviance}) == score


def test_residuals_of_activity_are_in_units_of_the_noise():
    observed = np.array([[[1.0, 5.0], [2.0, math.nan], [4.0, 5.0]]])
    found = _residuals("activity", np.full_like(observed, 3.0), observed, 0.5)
    np.testing.assert_allclose(found["residual"], [-4, 4, -2, 2, 4])
    assert found["of"] == "activity"
    # Two pairs of successive residuals are not enough for a correlation.
    assert found["lag1"] is None


def test_the_correlation_is_that_of_successive_steps():
    noise = np.random.default_rng(0).normal(size=(20, 200, 1))
    moving = noise + np.concatenate([0 * noise[:, :1], 0.5 * noise[:, :-1]], axis=1)
    # A moving average of 1 and 0.5 has a correlation of 0.4.
    assert _residuals("activity", 0 * noise, moving, 1.0)["lag1"] == pytest.approx(0.4, abs=0.05)
    assert _residuals("activity", 0 * noise, noise, 1.0)["lag1"] == pytest.approx(0, abs=0.05)


def test_residuals_of_choices_are_normal_if_probabilities_are_right():
    rng = np.random.default_rng(1)
    p = rng.uniform(size=(10, 300, 1))
    choices = (rng.uniform(size=p.shape) < p).astype(float)
    choices[0, 5] = math.nan
    right, wrong = (_residuals("choices", one, choices, 0.0)["residual"] for one in (p, 1 - p))
    assert right.size == choices.size - 1
    assert kstest(right, norm.cdf).pvalue > 1e-3
    assert kstest(wrong, norm.cdf).pvalue < 1e-9
    assert np.isfinite(_residuals("choices", np.round(p), choices, 0.0)["residual"]).all()
