import pytest

from metarule.config.toml import ConfigError
from metarule.runs.experiment import Run
from metarule.runs.loggers import CSV, Logger, make_logger, require_packages
from metarule.runs.loggers import names as by_name


def test_built_in_loggers_implement_the_protocol(monkeypatch):
    monkeypatch.setattr(by_name, "_is_installed", lambda package: True)
    for name in ("csv", "tensorboard", "wandb"):
        assert isinstance(make_logger(name), Logger)
    assert isinstance(make_logger("csv"), CSV)


def test_an_unknown_logger_is_refused():
    message = r"^loggers\[1\] = 'wand': allowed: csv, tensorboard, wandb, or my_module:MyLogger; did you mean"
    with pytest.raises(ValueError, match=message):
        Run(loggers=("csv", "wand"))


def test_a_missing_package_is_refused_where_a_run_begins_and_not_where_it_is_read(monkeypatch):
    monkeypatch.setattr(by_name, "find_spec", lambda package: None)
    assert Run(loggers="wandb").loggers == ("wandb",)
    message = r"^run.loggers\[1\] = 'wandb': wandb is missing; install it with: pip install 'metarule\[wandb\]'$"
    with pytest.raises(ConfigError, match=message):
        require_packages(("csv", "wandb"))


def test_a_folder_of_other_runs_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not by_name._is_installed("a_folder")
    assert by_name._is_installed("pytest")
