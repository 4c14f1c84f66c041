from importlib.metadata import PackageNotFoundError
from pathlib import Path

import jax
import pytest

from metarule.config.toml import ConfigError
from metarule.kernels import kernels
from metarule.runs import environment as environments
from metarule.runs.environment import check_precision, environment, record_environment
from metarule.runs.files import read_json, write_json


def test_every_environment_is_recorded_once(tmp_path, monkeypatch):
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


def test_without_a_known_environment_this_one_is_recorded(tmp_path):
    record_environment(tmp_path)
    assert read_json(tmp_path / "environment.json") == environment()
    write_json(tmp_path / "environment.json", {"resumed": 3})
    record_environment(tmp_path)
    assert read_json(tmp_path / "environment.json")["resumed"] == [environment()]


@pytest.mark.parametrize("wide", [False, True])
def test_the_precision_is_that_of_jax(wide):
    with jax.enable_x64(wide):
        same, other = ("float64", "float32") if wide else ("float32", "float64")
        assert environment()["precision"] == same
        check_precision(Path("a run"), same)
        with pytest.raises(ConfigError, match=f"begun in {other}, .* {same} here; set JAX_ENABLE_X64={int(not wide)}"):
            check_precision(Path("a run"), other)


@pytest.mark.parametrize("recorded", [None, "float16", 3])
def test_an_unknown_precision_is_refused(recorded):
    with pytest.raises(ConfigError, match="environment.json: precision = .*; allowed: 'float32', 'float64'"):
        check_precision(Path("a run"), recorded)


@pytest.mark.parametrize("mode", ["off", "on"])
def test_whether_loops_may_be_kernels_is_recorded(mode):
    with kernels(mode):
        assert environment()["kernels"] == mode
    assert environment()["packages"]["llvmlite"]


def test_a_package_that_metarule_can_do_without_may_be_missing(monkeypatch):
    def version(name):
        if name == "llvmlite":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(environments, "version", version)
    assert "llvmlite" not in environment()["packages"]
    assert environment()["packages"]["jax"] == "1.0"
