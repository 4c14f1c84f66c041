"""Shipped configs: found by bare name, and part of the wheel."""

import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from metarule.commands import cli
from metarule.commands.opening import CONFIGS, INFERENCES, SIMULATIONS, STUDIES, parse_new_run
from metarule.config import shipped as module
from metarule.config.shipped import find_config, shipped
from metarule.config.toml import ConfigError, read
from metarule.sweeps.declaration import read_sweep

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.toml"))
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_config_is_found_by_its_name(elsewhere):
    assert sorted(shipped().values()) == FILES
    assert sorted((*CONFIGS, *INFERENCES, *SIMULATIONS, *STUDIES)) == sorted(file.stem for file in FILES)
    for file in FILES:
        assert find_config(file.stem) == find_config(file.name) == file


def test_an_existing_file_wins_and_a_directory_does_not(elsewhere):
    (elsewhere / "points").mkdir()
    assert find_config("points") == ROOT / "configs" / "points.toml"
    (elsewhere / "boolean.toml").touch()
    assert find_config("boolean.toml") == Path("boolean.toml")
    assert find_config("boolean") == ROOT / "configs" / "boolean.toml"
    (elsewhere / "digits").touch()
    assert find_config("digits") == Path("digits")


@pytest.mark.parametrize("name", ["./boolean", "configs/boolean.toml", "/boolean.toml", "a" * 300, "a\0b"])
def test_a_path_stays_as_it_is(name, elsewhere):
    assert find_config(name) == Path(name)


def test_an_unknown_name_lists_those_that_are_shipped(elsewhere):
    with pytest.raises(
        ConfigError, match=r"bolean\.toml: No such file or directory; shipped configs: bandit, .*"
    ) as error:
        find_config("bolean.toml")
    assert str(error.value).endswith("; did you mean 'boolean'?")


def test_configs_of_an_installed_wheel_are_inside_of_the_package(elsewhere, monkeypatch):
    inside = elsewhere / "configs"
    inside.mkdir()
    (inside / "mine.toml").touch()
    monkeypatch.setattr(module, "_FOLDERS", (inside, ROOT / "configs"))
    assert find_config("mine") == inside / "mine.toml"


def test_commands_and_sweep_files_find_configs_by_name(elsewhere, monkeypatch):
    assert parse_new_run(["boolean-2"]).config == ROOT / "configs" / "boolean-2.toml"
    (elsewhere / "sweep.toml").write_text('config = "boolean-2"\n')
    assert read_sweep(elsewhere / "sweep.toml")[1] == read(ROOT / "configs" / "boolean-2.toml")[1]
    (elsewhere / "mine.toml").write_text("[devices]\nuse = 1\n")
    monkeypatch.setattr(cli, "find_config", lambda name: elsewhere / "mine.toml")
    assert cli._devices(["mine"])[0].use == 1


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_file_is_read_as_its_sweep(name):
    declared, base = read_sweep(find_config(name))
    assert len(declared.seeds) > 1
    assert "tasks" in base


def test_the_wheel_holds_configs_kernels_and_the_mark_of_types():
    assert WHEEL["only-include"] == ["metarule", "configs"]
    assert WHEEL["sources"] == {"configs": "metarule/configs"}
    assert "configs/results" in WHEEL["exclude"]
    for file in (*FILES, ROOT / "metarule" / "py.typed", *(ROOT / "metarule").rglob("*.ll")):
        assert not any(fnmatch(str(file.relative_to(ROOT)), pattern) for pattern in WHEEL["exclude"]), file


@pytest.mark.long
def test_a_wheel_is_built_with_them(tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"metarule/configs/{file.name}" for file in FILES} | {"metarule/py.typed"}
    wanted |= {str(file.relative_to(ROOT)) for file in (ROOT / "metarule").rglob("*.ll")}
    assert wanted <= names
    assert not any(name.endswith((".png", ".json")) for name in names)
