"""Cold and warm starts are those of the command itself."""

from pathlib import Path

import msgspec
import pytest
from small import EXPERIMENT

from benchmarks import starts
from metarule.runs.experiment import to_tree


def test_the_first_meta_step_of_a_fresh_process_is_timed(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "of the user"))
    config, cache = tmp_path / "config.toml", tmp_path / "cache"
    config.write_bytes(msgspec.toml.encode(to_tree(EXPERIMENT)))
    assert starts.first_step_seconds(config, cache) > 0
    assert list(cache.rglob("jit_advance*-cache"))
    assert not (tmp_path / "of the user").exists()


def test_a_command_that_fails_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="No such file"):
        starts.first_step_seconds(tmp_path / "none.toml", None)


def test_kinds_of_start_take_turns(monkeypatch):
    calls = []

    def timed(config, cache):
        calls.append((cache, bool(cache) and len(list(cache.iterdir()))))
        if cache:
            (cache / str(len(calls))).write_text("")
        return float(len(calls))

    monkeypatch.setattr(starts, "first_step_seconds", timed)
    assert starts.starts(Path("config.toml"), trials=3) == [{"config": "config", "off": 4.0, "cold": 5.0, "warm": 6.0}]
    assert [there for _, there in calls] == [False, 0, 1] * 3
