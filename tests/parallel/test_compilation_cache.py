"""The cache of compiled programs is where the user expects it, and damaged programs break no command."""

import os
import platform
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import jax
import pytest

from metarule.commands import cli
from metarule.parallel import compilation_cache as programs
from metarule.parallel.compilation_cache import enable_compilation_cache

DIRECTORY, SIZE = "jax_compilation_cache_dir", "jax_compilation_cache_max_size"
SETTINGS = (DIRECTORY, *programs._SETTINGS)
# Compiles, damages the stored program, and compiles again.
PROGRAM = """
import sys, warnings
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
import metarule
from jax._src.lib import xla_client
from metarule.commands import cli

assert jax.config.values["jax_compilation_cache_dir"] is None  # importing has no effect

def serve(_):
    compiled = jax.jit(lambda x: jnp.tanh(x @ x).sum())
    first = compiled(np.ones((3, 3), np.float32))
    (stored,) = [file for file in Path(sys.argv[1]).rglob("*-cache") if "lambda" in file.name]
    stored.write_bytes(stored.read_bytes()[:-9])
    jax.clear_caches()
    with warnings.catch_warnings(record=True) as caught:
        assert compiled(np.ones((3, 3), np.float32)) == first
    assert ["Error reading" in str(one.message) for one in caught] == [True]
    return 0

status = cli.run("x", ["word"], "", serve, "")
print(xla_client.get_topology_for_devices(jax.devices()).fingerprint())
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A user without settings; the settings of the tests are restored afterwards."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    for name in (*map(str.upper, SETTINGS), programs.VARIABLE, "NPROC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    jax.config.update(DIRECTORY, None)
    jax.config.update(SIZE, -1)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def directory():
    return jax.config.values[DIRECTORY] and Path(jax.config.values[DIRECTORY])


def test_the_cache_is_in_the_cache_directory_of_the_user_and_bounded(tmp_path):
    assert enable_compilation_cache() == ""
    assert directory().parent == tmp_path / "xdg" / "metarule" / "programs"
    assert directory().is_dir()
    assert 0 < jax.config.values[SIZE] <= 2**30


@pytest.mark.parametrize("cache_home", ["", "relative"])
def test_without_a_cache_directory_the_cache_is_in_the_home_directory(cache_home, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", cache_home)
    monkeypatch.setenv("HOME", str(tmp_path))
    enable_compilation_cache()
    assert directory().parent == tmp_path / ".cache" / "metarule" / "programs"


def test_the_variable_names_another_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(programs.VARIABLE, "here")
    enable_compilation_cache()
    assert directory().parent == tmp_path / "here"


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no"])
def test_the_variable_disables_the_cache(word, monkeypatch, tmp_path):
    monkeypatch.setenv(programs.VARIABLE, word)
    assert enable_compilation_cache() == ""
    assert directory() is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [(DIRECTORY, "/mine"), ("jax_enable_compilation_cache", False), (SIZE, 0)])
def test_settings_of_jax_by_the_user_are_not_changed(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(programs.VARIABLE, str(tmp_path / "here"))
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        enable_compilation_cache()
        assert jax.config.values[name] == value
        assert not list(tmp_path.iterdir())
    finally:
        jax.config.update(name, before)


def test_a_size_in_the_environment_is_not_changed(monkeypatch):
    monkeypatch.setenv(SIZE.upper(), "12345")  # JAX reads it when it is imported
    jax.config.update(SIZE, 12345)
    enable_compilation_cache()
    assert jax.config.values[SIZE] == 12345


def test_each_number_of_cores_has_its_own_folder(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(7), raising=False)
    assert programs._folder("/there") == Path("/there/7-cores")
    monkeypatch.setenv("NPROC", "3")
    assert programs._folder("/there") == Path("/there/7-cores-3")
    monkeypatch.setenv("NPROC", "../3")
    assert programs._folder("/there") == Path("/there/7-cores")


def test_an_unwritable_directory_is_reported_if_the_user_named_it(tmp_path, monkeypatch, capsys):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert enable_compilation_cache() == ""
    monkeypatch.setenv(programs.VARIABLE, str(file))
    assert cli.run("metarule.x", ["word"], "", lambda _: 0, "") == 0
    assert directory() is None
    reason = "Not a directory; compiled programs are not kept"
    assert capsys.readouterr().err == f"metarule.x: METARULE_CACHE = '{file}': {reason}\n"


def test_a_nearly_full_disk_is_not_used(monkeypatch, tmp_path):
    usage = namedtuple("Usage", "free")
    monkeypatch.setattr(programs.shutil, "disk_usage", lambda _: usage(free=10**6))
    monkeypatch.setenv(programs.VARIABLE, str(tmp_path))
    assert "No space left" in enable_compilation_cache()
    assert directory() is None


def test_incomplete_programs_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv(programs.VARIABLE, str(tmp_path))
    folder = programs._folder(str(tmp_path))
    folder.mkdir()
    files = {"whole-cache": b"x", "whole-atime": b"t", "cut-cache": b"x", "empty-cache": b"", "empty-atime": b"t"}
    for name, content in (files | {"gone-atime": b"t"}).items():
        (folder / name).write_bytes(content)
    enable_compilation_cache()
    assert {file.name for file in folder.glob("*-*")} == {"whole-cache", "whole-atime"}


def test_without_a_limit_there_are_no_times_of_use(tmp_path, monkeypatch):
    monkeypatch.setenv(programs.VARIABLE, str(tmp_path))
    monkeypatch.setenv(SIZE.upper(), "-1")
    folder = programs._folder(str(tmp_path))
    folder.mkdir()
    (folder / "whole-cache").write_bytes(b"x")
    enable_compilation_cache()
    assert (folder / "whole-cache").exists()


def test_help_and_commands_that_time_compiling_store_nothing():
    assert cli.run("metarule.x", ["--help"], "", lambda _: 0, "") == 0
    assert cli.run("metarule.x", ["word"], "", lambda _: 0, "", cached=False) == 0
    assert directory() is None


def test_a_damaged_program_is_compiled_again_and_other_cpus_have_other_names(tmp_path):
    environment = os.environ | {
        programs.VARIABLE: str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa=SSE4_2",
    }
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    chosen = "max_isa" in os.environ.get("XLA_FLAGS", "")
    if jax.default_backend() == "cpu" and platform.machine() == "x86_64" and not chosen:
        from jax._src.lib import xla_client

        assert xla_client.get_topology_for_devices(jax.devices()).fingerprint() != int(done.stdout)
