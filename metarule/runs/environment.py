"""Environment of a run: versions, device and precision of the processes that computed it."""

import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from metarule.config.toml import ConfigError
from metarule.runs.files import read_json, write_json

__all__ = ["ENVIRONMENT", "check_precision", "environment", "merge_environment", "precision", "record_environment"]

ENVIRONMENT = "environment.json"

_PACKAGES = (
    "metarule",
    "jax",
    "jaxlib",
    "optax",
    "chex",
    "msgspec",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "scikit-learn",
)
# Field with the environments of later processes.
_RESUMED = "resumed"


def environment() -> dict[str, Any]:
    """Describe this process: command, versions, device and precision."""
    device = jax.devices()[0]
    return {
        "command": sys.argv,
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "packages": {name: version(name) for name in _PACKAGES},
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "processes": jax.process_count(),
        "precision": precision(),
    }


def merge_environment(known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add the environment of this process to those of earlier ones.

    Args:
        known: environment of the first process, with those of later ones in `resumed`; None for none.

    Returns:
        The same with this one, unless one that differs in its command alone is among them.
    """
    now = environment()
    if not known:
        return now
    resumed = known[_RESUMED] if isinstance(known.get(_RESUMED), list) else []
    first = {name: value for name, value in known.items() if name != _RESUMED}
    if any(isinstance(one, dict) and now | {"command": None} == one | {"command": None} for one in (first, *resumed)):
        return dict(known)
    return {**known, _RESUMED: [*resumed, now]}


def record_environment(directory: Path) -> None:
    """Add the environment of this process to the file of a run, or of a cell of a sweep."""
    file = directory / ENVIRONMENT
    known = read_json(file)
    if (merged := merge_environment(known)) != known:
        write_json(file, merged)


def precision() -> str:
    """Type of floating-point numbers: float32, or float64 where JAX is set so."""
    return str(jax.numpy.result_type(float))


def check_precision(path: Path, recorded: object) -> None:
    """Refuse another precision: random numbers differ, and with them tasks and weights.

    Args:
        path: directory of the run, or of a sweep.
        recorded: its precision.

    Raises:
        ConfigError: another precision, with the variable to set.
    """
    here = precision()
    if recorded not in ("float32", "float64"):
        raise ConfigError(f"{path / ENVIRONMENT}: precision = {recorded!r}; allowed: 'float32', 'float64'")
    if recorded != here:
        set_to = f"set JAX_ENABLE_X64={int(recorded == 'float64')}"
        raise ConfigError(f"{path}: it was begun in {recorded}, and JAX is set to {here} here; {set_to}")
