"""Environment of a run: versions, device, precision and kernels of the processes that computed it."""

import hashlib
import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from metarule.config.imports import module_files
from metarule.config.toml import ConfigError
from metarule.kernels import kernels
from metarule.runs.files import read_json, write_json

__all__ = ["ENVIRONMENT", "check_precision", "environment", "name_changed_modules", "record_environment"]

ENVIRONMENT = "environment.json"

# Packages whose versions are recorded.
_NAMES = (
    "metarule",
    "jax",
    "jaxlib",
    "llvmlite",
    "optax",
    "chex",
    "msgspec",
    "numpy",
    "scipy",
    "scikit-learn",
)
_LOG = logging.getLogger(__name__)
# Field with the environments of later processes.
_RESUMED = "resumed"


def environment() -> dict[str, Any]:
    """Describe this process: command, versions, device, precision, kernels and hashes of users' own modules."""
    device = jax.devices()[0]
    return {
        "command": sys.argv,
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "packages": {name: found for name in _NAMES if (found := _version(name))},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "processes": jax.process_count(),
        "precision": _precision(),
        "kernels": kernels.value,
        "modules": _hashes(),
    }


def name_changed_modules(path: Path, recorded: object) -> None:
    """Log a line for each of a user's modules that has changed since a run or a sweep was started.

    Args:
        path: its directory.
        recorded: hashes by name in its environment.
    """
    known = recorded if isinstance(recorded, dict) else {}
    for name, digest in _hashes().items():
        if known.get(name, digest) != digest:
            _LOG.warning("%s: module '%s' has changed since the run was started, and with it the results", path, name)


def _hashes() -> dict[str, str]:
    """SHA-256 of the file of each module of a user."""
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in module_files().items()}


def record_environment(directory: Path) -> None:
    """Add the environment of this process to the file of a run, or of a cell of a sweep.

    Args:
        directory: with the environment of its first process, and those of later ones in `resumed`. One that differs
            from these in its command alone is not added.
    """
    file, current = directory / ENVIRONMENT, environment()
    first = read_json(file)
    if not first:
        write_json(file, current)
        return
    resumed = first.pop(_RESUMED, None)
    resumed = resumed if isinstance(resumed, list) else []
    known = [process | {"command": None} for process in (first, *resumed) if isinstance(process, dict)]
    if current | {"command": None} not in known:
        write_json(file, first | {_RESUMED: [*resumed, current]})


def check_precision(path: Path, recorded: object) -> None:
    """Refuse another precision: random numbers differ, and with them tasks and weights.

    Args:
        path: directory of the run, or of a sweep.
        recorded: its precision.

    Raises:
        ConfigError: another precision, with the variable to set.
    """
    current = _precision()
    if recorded not in ("float32", "float64"):
        raise ConfigError(f"{path / ENVIRONMENT}: precision = {recorded!r}; allowed: 'float32', 'float64'")
    if recorded != current:
        set_to = f"set JAX_ENABLE_X64={int(recorded == 'float64')}"
        raise ConfigError(f"{path}: it was begun in {recorded}, and JAX is set to {current} here; {set_to}")


def _version(name: str) -> str:
    """Version of a package; empty if it is not installed, as those may be that metarule can do without."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _precision() -> str:
    return str(jax.numpy.result_type(float))
