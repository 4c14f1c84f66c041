"""Loggers by name."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import cast

from metarule.config.imports import find_class, is_import_path, located
from metarule.config.messages import did_you_mean
from metarule.config.toml import ConfigError
from metarule.runs.loggers.base import Logger
from metarule.runs.loggers.csv import CSV
from metarule.runs.loggers.tensorboard import TensorBoard
from metarule.runs.loggers.wandb import Wandb

__all__ = ["check_names", "make_logger", "require_packages"]

_LOGGERS: dict[str, Callable[[], Logger]] = {"csv": CSV, "tensorboard": TensorBoard, "wandb": Wandb}
# Packages that they import, each of which an extra of the logger's name installs.
_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def check_names(names: Sequence[str]) -> None:
    """Refuse, by a ValueError, the name of no logger; packages may be missing where a run is only read."""
    for number, name in enumerate(names):
        if name not in _LOGGERS and not is_import_path(name):
            allowed = f"allowed: {', '.join(_LOGGERS)}, or my_module:MyLogger{did_you_mean(name, _LOGGERS)}"
            raise ValueError(f"loggers[{number}] = '{name}': {allowed}")


def make_logger(name: str) -> Logger:
    """Make the logger of a name, or of an import path.

    Raises:
        ValueError: the package that it needs is missing, or no logger can be made of the class.
    """
    if is_import_path(name):
        logger = find_class(name, Logger)
        try:
            return cast(Logger, logger())
        except Exception as error:  # a user's own code
            raise ValueError(located(error)) from error
    package = _PACKAGES.get(name)
    if package and not _is_installed(package):
        raise ValueError(f"{package} is missing; install it with: pip install 'metarule[{name}]'")
    return _LOGGERS[name]()


def require_packages(names: Sequence[str]) -> None:
    """Refuse, by a ConfigError, a logger whose package is missing, before a run begins."""
    for number, name in enumerate(names):
        try:
            make_logger(name)
        except ValueError as error:
            raise ConfigError(f"run.loggers[{number}] = '{name}': {error}") from error


def _is_installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder `wandb` of other runs has no origin
