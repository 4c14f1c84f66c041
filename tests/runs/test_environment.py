from pathlib import Path

import jax
import pytest

from metarule.config.toml import ConfigError
from metarule.runs import environment as environments
from metarule.runs.environment import check_precision, environment, record_environment, with_this
from metarule.runs.files import read_json, write_json


def test_every_environment_that_took_part_is_kept_once(tmp_path, monkeypatch):
    write_json(tmp_path / "environment.json", first := environment())
    record_environment(tmp_path)
    monkeypatch.setattr("sys.argv", ["another command"])
    record_environment(tmp_path)
    assert read_json(tmp_path / "environment.json") == first
    monkeypatch.setattr(environments, "version", lambda name: "9.9")
    for _ in range(2):
        record_environment(tmp_path)
    joined = read_json(tmp_path / "environment.json")
    assert {name: joined[name] for name in first} == first
    (later,) = joined["resumed"]
    assert (later["packages"]["jax"], later["command"]) == ("9.9", ["another command"])


def test_what_is_no_environment_is_left_beside_this_one():
    assert with_this(None) == environment()
    assert with_this({"resumed": 3})["resumed"] == [environment()]


@pytest.mark.parametrize("wide", [False, True])
def test_the_precision_is_that_of_jax(wide):
    with jax.enable_x64(wide):
        same, other = ("float64", "float32") if wide else ("float32", "float64")
        assert environment()["precision"] == same
        check_precision(Path("a run"), same)
        with pytest.raises(ConfigError, match=f"begun in {other}, .* {same} here; set JAX_ENABLE_X64={int(not wide)}"):
            check_precision(Path("a run"), other)


def test_a_run_from_before_it_was_recorded_is_in_float32(float64):
    with pytest.raises(ConfigError, match="begun in float32.*set JAX_ENABLE_X64=0"):
        check_precision(Path("a run"), None)
